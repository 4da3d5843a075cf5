/**
 * vhost-user: how a front end (QEMU) tells a back end (us) where a guest's memory and rings are. Messages go over a
 * Unix stream socket, in the byte order of the machine, here little-endian:
 *
 *   0  u32  request
 *   4  u32  flags: bits 0 and 1 version (1), bit 2 answer, bit 3 "answer, also if the request has no answer"
 *   8  u32  bytes of the payload
 *  12       payload
 *
 * File descriptors come beside the first byte of a message (SCM_RIGHTS), at most eight.
 * Source: docs/interop/vhost-user.rst of QEMU.
 */
import { KitError } from "../../core/errors.ts";

export const VHOST_HEADER_BYTES = 12;
/** The largest we know is a memory table of eight regions (264 bytes) or a configuration (268). */
export const MAX_VHOST_PAYLOAD_BYTES = 512;
export const MAX_VHOST_DESCRIPTORS = 8;

const VERSION = 1;
const VERSION_MASK = 3;
const ANSWER_FLAG = 4;
const NEED_ANSWER_FLAG = 8;
const KNOWN_FLAGS = VERSION_MASK | ANSWER_FLAG | NEED_ANSWER_FLAG;

export interface VhostHeader {
  readonly request: number;
  readonly isAnswer: boolean;
  /** The sender waits for a number that says how it went, if that was agreed on. */
  readonly needsAnswer: boolean;
  readonly payloadBytes: number;
}

/** @param bytes exactly VHOST_HEADER_BYTES. @throws E_QEMU_VSOCK_FRONT_END */
export function decodeVhostHeader(bytes: Buffer): VhostHeader {
  if (bytes.length !== VHOST_HEADER_BYTES) throw vhostError(`a header of ${bytes.length} bytes`);
  const request = bytes.readUInt32LE(0);
  const flags = bytes.readUInt32LE(4);
  const payloadBytes = bytes.readUInt32LE(8);
  if ((flags & VERSION_MASK) !== VERSION || (flags & ~KNOWN_FLAGS) !== 0)
    throw vhostError(`request ${request} has the flags 0x${flags.toString(16)}`);
  if (payloadBytes > MAX_VHOST_PAYLOAD_BYTES)
    throw vhostError(`request ${request} has ${payloadBytes} bytes, more than ${MAX_VHOST_PAYLOAD_BYTES}`);
  return {
    request,
    isAnswer: (flags & ANSWER_FLAG) !== 0,
    needsAnswer: (flags & NEED_ANSWER_FLAG) !== 0,
    payloadBytes,
  };
}

/** Header and payload of one message. */
export function encodeVhostFrame(
  { request, isAnswer, needsAnswer }: Omit<VhostHeader, "payloadBytes">,
  payload: Uint8Array,
): Buffer {
  const frame = Buffer.alloc(VHOST_HEADER_BYTES + payload.length);
  frame.writeUInt32LE(request, 0);
  frame.writeUInt32LE(VERSION | (isAnswer ? ANSWER_FLAG : 0) | (needsAnswer ? NEED_ANSWER_FLAG : 0), 4);
  frame.writeUInt32LE(payload.length, 8);
  frame.set(payload, VHOST_HEADER_BYTES);
  return frame;
}

export function vhostError(why: string): KitError {
  return new KitError("E_QEMU_VSOCK_FRONT_END", `vhost-user: ${why}`);
}
