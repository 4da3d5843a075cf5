/**
 * The header of every packet between a guest and its vsock device: 44 bytes, little-endian (virtio 1.2, section
 * 5.10.6; struct virtio_vsock_hdr of Linux).
 *
 *    0  u64  source CID          24  u32  bytes after the header      36  u32  buffer space of the sender
 *    8  u64  destination CID     28  u16  type                        40  u32  bytes the sender has consumed so far
 *   16  u32  source port         30  u16  operation
 *   20  u32  destination port    32  u32  flags (of SHUTDOWN)
 *
 * Credit: at most `bufferSpace - (sent - consumed)` further bytes may be sent to whoever said the two numbers, where
 * counts run from the beginning of the connection, modulo 2^32.
 */
import { KitError } from "../../core/errors.ts";

export const VSOCK_HEADER_BYTES = 44;
/** The host, as destination and source. */
export const CID_HOST = 2;
/** What AWS's init takes for the parent instance. */
export const CID_PARENT = 3;

/** The only type that we speak; 2 is seqpacket. */
export const VSOCK_STREAM = 1;

export const VSOCK_OP = {
  request: 1,
  response: 2,
  reset: 3,
  shutdown: 4,
  data: 5,
  creditUpdate: 6,
  creditRequest: 7,
} as const;

/** Flags of SHUTDOWN: what its sender will not do any more. */
export const SHUTDOWN_RECEIVE = 1;
export const SHUTDOWN_SEND = 2;
export const SHUTDOWN_BOTH = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/** All are unsigned and of 32 bits but the type and the operation, which have 16. */
export interface VsockHeader {
  /** The upper half of a CID is reserved: a value beyond 32 bits is nobody's. */
  readonly sourceCid: number;
  readonly destinationCid: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sizeBytes: number;
  readonly type: number;
  readonly operation: number;
  readonly flags: number;
  readonly bufferSpace: number;
  readonly consumed: number;
}

const U32 = 0x1_0000_0000;

/**
 * Any 44 bytes are a header; whether its type, operation and addresses make sense is the reader's to judge.
 * @param offset where the header begins
 * @throws E_QEMU_VSOCK_GUEST for fewer bytes
 */
export function decodeVsockHeader(view: DataView, offset = 0): VsockHeader {
  if (view.byteLength - offset < VSOCK_HEADER_BYTES)
    throw new KitError("E_QEMU_VSOCK_GUEST", `a packet of ${view.byteLength - offset} bytes has no header`);
  const word = (at: number): number => view.getUint32(offset + at, true);
  return {
    sourceCid: word(0) + word(4) * U32,
    destinationCid: word(8) + word(12) * U32,
    sourcePort: word(16),
    destinationPort: word(20),
    sizeBytes: word(24),
    type: view.getUint16(offset + 28, true),
    operation: view.getUint16(offset + 30, true),
    flags: word(32),
    bufferSpace: word(36),
    consumed: word(40),
  };
}

/** Writes the header at the beginning of `target`, which has room for it. */
export function encodeVsockHeader(header: VsockHeader, target: DataView): void {
  const word = (at: number, value: number): void => target.setUint32(at, value, true);
  word(0, header.sourceCid);
  word(4, Math.floor(header.sourceCid / U32));
  word(8, header.destinationCid);
  word(12, Math.floor(header.destinationCid / U32));
  word(16, header.sourcePort);
  word(20, header.destinationPort);
  word(24, header.sizeBytes);
  target.setUint16(28, header.type, true);
  target.setUint16(30, header.operation, true);
  word(32, header.flags);
  word(36, header.bufferSpace);
  word(40, header.consumed);
}
