/** The requests of a vhost-user front end that a vsock device needs, as values (frames.ts has the envelope). */
import { MAX_VHOST_DESCRIPTORS, vhostError } from "./frames.ts";
import { decodeMemoryTable, type MemoryRegion } from "./memory-table.ts";

export const VHOST_REQUEST = {
  getFeatures: 1,
  setFeatures: 2,
  setOwner: 3,
  resetOwner: 4,
  setMemoryTable: 5,
  setRingSize: 8,
  setRingAddresses: 9,
  setRingBase: 10,
  getRingBase: 11,
  setRingKick: 12,
  setRingCall: 13,
  setRingError: 14,
  getProtocolFeatures: 15,
  setProtocolFeatures: 16,
  getRingCount: 17,
  setRingEnabled: 18,
  getConfig: 24,
} as const;

/** Without it a front end cannot read or agree on protocol features; rings begin disabled with it. */
export const FEATURE_PROTOCOL = 1n << 30n;

export const PROTOCOL_FEATURE = {
  manyRings: 1n << 0n,
  answers: 1n << 3n,
  config: 1n << 9n,
} as const;

/** Where the parts of a ring are, as addresses of the front end's process. */
export interface RingAddresses {
  readonly descriptors: number;
  readonly used: number;
  readonly available: number;
}

export type RingDescriptor = "kick" | "call" | "error";

type EmptyKind = "get-features" | "set-owner" | "reset-owner" | "get-protocol-features" | "get-ring-count";

export type VhostRequest =
  | { readonly kind: EmptyKind }
  | { readonly kind: "set-features" | "set-protocol-features"; readonly features: bigint }
  | { readonly kind: "set-memory-table"; readonly regions: readonly MemoryRegion[] }
  | { readonly kind: "set-ring-size" | "set-ring-base"; readonly ring: number; readonly value: number }
  | { readonly kind: "set-ring-addresses"; readonly ring: number; readonly addresses: RingAddresses }
  | { readonly kind: "get-ring-base"; readonly ring: number }
  | { readonly kind: "set-ring-enabled"; readonly ring: number; readonly isEnabled: boolean }
  | {
      readonly kind: "set-ring-descriptor";
      readonly ring: number;
      readonly which: RingDescriptor;
      /** False: the ring shall be polled, or has no such descriptor. */
      readonly hasDescriptor: boolean;
    }
  | {
      readonly kind: "get-config";
      readonly offset: number;
      readonly sizeBytes: number;
      readonly flags: number;
    };

const CONFIG_HEAD_BYTES = 12;
export const MAX_CONFIG_BYTES = 256;
const RING_INDEX_MASK = 0xff;
const NO_DESCRIPTOR_FLAG = 0x100;

type Decoder = (payload: Buffer) => VhostRequest;

const DECODERS: ReadonlyMap<number, Decoder> = new Map<number, Decoder>([
  [VHOST_REQUEST.getFeatures, (payload) => empty("get-features", payload)],
  [VHOST_REQUEST.setFeatures, (payload) => ({ kind: "set-features", features: decodeU64(payload) })],
  [VHOST_REQUEST.setOwner, (payload) => empty("set-owner", payload)],
  [VHOST_REQUEST.resetOwner, (payload) => empty("reset-owner", payload)],
  [
    VHOST_REQUEST.setMemoryTable,
    (payload) => ({ kind: "set-memory-table", regions: decodeMemoryTable(payload) }),
  ],
  [VHOST_REQUEST.setRingSize, (payload) => ({ kind: "set-ring-size", ...ringValue(payload) })],
  [VHOST_REQUEST.setRingAddresses, decodeRingAddresses],
  [VHOST_REQUEST.setRingBase, (payload) => ({ kind: "set-ring-base", ...ringValue(payload) })],
  [VHOST_REQUEST.getRingBase, (payload) => ({ kind: "get-ring-base", ring: ringValue(payload).ring })],
  [VHOST_REQUEST.setRingKick, (payload) => decodeRingDescriptor(payload, "kick")],
  [VHOST_REQUEST.setRingCall, (payload) => decodeRingDescriptor(payload, "call")],
  [VHOST_REQUEST.setRingError, (payload) => decodeRingDescriptor(payload, "error")],
  [VHOST_REQUEST.getProtocolFeatures, (payload) => empty("get-protocol-features", payload)],
  [
    VHOST_REQUEST.setProtocolFeatures,
    (payload) => ({ kind: "set-protocol-features", features: decodeU64(payload) }),
  ],
  [VHOST_REQUEST.getRingCount, (payload) => empty("get-ring-count", payload)],
  [VHOST_REQUEST.setRingEnabled, decodeRingEnabled],
  [VHOST_REQUEST.getConfig, decodeGetConfig],
]);

/** @throws E_QEMU_VSOCK_FRONT_END for an unknown request, or a payload that is not exactly one of it */
export function decodeVhostRequest(request: number, payload: Buffer): VhostRequest {
  const decode = DECODERS.get(request);
  if (decode === undefined) throw vhostError(`request ${request} is none that this device knows`);
  return decode(payload);
}

/** How many descriptors must come with a request: neither more nor fewer. */
export function descriptorsOf(request: VhostRequest): number {
  switch (request.kind) {
    case "set-memory-table":
      return Math.min(request.regions.length, MAX_VHOST_DESCRIPTORS);
    case "set-ring-descriptor":
      return request.hasDescriptor ? 1 : 0;
    default:
      return 0;
  }
}

/** The payload of numbers: features, counts, and how a request went (0: well). */
export function encodeU64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

export function encodeRingValue(ring: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(ring, 0);
  bytes.writeUInt32LE(value, 4);
  return bytes;
}

/** A part of the device's configuration; no bytes say that there is no such part. */
export function encodeConfig(offset: number, flags: number, bytes: Uint8Array): Buffer {
  const payload = Buffer.alloc(CONFIG_HEAD_BYTES + bytes.length);
  payload.writeUInt32LE(offset, 0);
  payload.writeUInt32LE(bytes.length, 4);
  payload.writeUInt32LE(flags, 8);
  payload.set(bytes, CONFIG_HEAD_BYTES);
  return payload;
}

function empty(kind: EmptyKind, payload: Buffer): VhostRequest {
  expectSize(payload, 0, kind);
  return { kind };
}

function decodeU64(payload: Buffer): bigint {
  expectSize(payload, 8, "a number");
  return payload.readBigUInt64LE();
}

function ringValue(payload: Buffer): { readonly ring: number; readonly value: number } {
  expectSize(payload, 8, "the state of a ring");
  return { ring: payload.readUInt32LE(0), value: payload.readUInt32LE(4) };
}

function decodeRingEnabled(payload: Buffer): VhostRequest {
  const { ring, value } = ringValue(payload);
  if (value > 1) throw vhostError(`ring ${ring} shall be enabled with ${value} instead of 0 or 1`);
  return { kind: "set-ring-enabled", ring, isEnabled: value === 1 };
}

function decodeRingAddresses(payload: Buffer): VhostRequest {
  expectSize(payload, 40, "the addresses of a ring");
  const ring = payload.readUInt32LE(0);
  if (payload.readUInt32LE(4) !== 0) throw vhostError(`ring ${ring} shall log what it writes`);
  return {
    kind: "set-ring-addresses",
    ring,
    addresses: {
      descriptors: readAddress(payload, 8),
      used: readAddress(payload, 16),
      available: readAddress(payload, 24),
    },
  };
}

function decodeRingDescriptor(payload: Buffer, which: RingDescriptor): VhostRequest {
  expectSize(payload, 8, `the ${which} descriptor of a ring`);
  const value = payload.readUInt32LE(0);
  if ((value & ~(RING_INDEX_MASK | NO_DESCRIPTOR_FLAG)) !== 0 || payload.readUInt32LE(4) !== 0)
    throw vhostError(`the ${which} descriptor of a ring has unknown flags`);
  const hasDescriptor = (value & NO_DESCRIPTOR_FLAG) === 0;
  return { kind: "set-ring-descriptor", ring: value & RING_INDEX_MASK, which, hasDescriptor };
}

/** The front end sends as many bytes as it wants to have; their values are of no meaning. */
function decodeGetConfig(payload: Buffer): VhostRequest {
  if (payload.length < CONFIG_HEAD_BYTES) throw vhostError("a question for the configuration is cut off");
  const sizeBytes = payload.readUInt32LE(4);
  if (sizeBytes > MAX_CONFIG_BYTES) throw vhostError(`${sizeBytes} bytes of configuration are too many`);
  expectSize(payload, CONFIG_HEAD_BYTES + sizeBytes, "a question for the configuration");
  return { kind: "get-config", offset: payload.readUInt32LE(0), sizeBytes, flags: payload.readUInt32LE(8) };
}

function readAddress(payload: Buffer, offset: number): number {
  const value = payload.readBigUInt64LE(offset);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw vhostError(`0x${value.toString(16)} is no address`);
  return Number(value);
}

function expectSize(payload: Buffer, sizeBytes: number, what: string): void {
  if (payload.length !== sizeBytes)
    throw vhostError(`${what}: ${payload.length} bytes instead of ${sizeBytes}`);
}
