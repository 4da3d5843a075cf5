/**
 * Preface of an egress connection (vsock 8445), then raw bytes both ways.
 *
 *   enclave  'E' 'O' 0x01 kind (u8)  port (u16, big-endian)  token (8 bytes)  length (u8)  target (length bytes)
 *   host     'E' 'O' 0x01 status (u8)  token (8 bytes)
 *
 * kind 1: a canonical host name in ASCII; 2: an IPv4 address (4 bytes); 3: an IPv6 address (16 bytes). The token is
 * random and comes back, so that a host which confuses its streams is noticed before a byte is relayed. It proves
 * nothing about a host that lies: that is what TLS to the destination is for.
 */
import { KitError } from "../core/errors.ts";

export const EGRESS_HEAD_BYTES = 15;
export const EGRESS_ANSWER_BYTES = 12;
export const EGRESS_TOKEN_BYTES = 8;
const VERSION = 1;
const KIND = { name: 1, ipv4: 2, ipv6: 3 } as const;
const MAX_NAME_BYTES = 253;

export type EgressDestination =
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "ipv4" | "ipv6"; readonly bytes: Uint8Array };

export interface EgressHead {
  readonly kind: EgressDestination["kind"];
  readonly port: number;
  readonly token: Uint8Array;
  /** Of the target that follows. */
  readonly lengthBytes: number;
}

export const EGRESS_STATUS = {
  connected: 0,
  /** The host's own policy says no. */
  denied: 1,
  /** The name has no address. */
  notResolved: 2,
  /** Every address of the name is one that nobody may reach through the host. */
  forbidden: 3,
  /** The destination refused the connection. */
  refused: 4,
  /** No answer in time, or no way there. */
  unreachable: 5,
  /** The host has no room for another connection. */
  busy: 6,
} as const;

export type EgressStatus = keyof typeof EGRESS_STATUS;
const STATUSES = [
  "connected",
  "denied",
  "notResolved",
  "forbidden",
  "refused",
  "unreachable",
  "busy",
] as const satisfies readonly EgressStatus[];

export function encodeEgressPreface(
  destination: EgressDestination,
  port: number,
  token: Uint8Array,
): Uint8Array {
  const target = destination.kind === "name" ? Buffer.from(destination.name, "latin1") : destination.bytes;
  const head = [0x45, 0x4f, VERSION, KIND[destination.kind], port >> 8, port & 0xff];
  return Buffer.concat([Uint8Array.from(head), token, Uint8Array.of(target.length), target]);
}

/** @param bytes exactly EGRESS_HEAD_BYTES. @throws E_EGRESS_PREFACE */
export function decodeEgressHead(bytes: Uint8Array): EgressHead {
  const [e, o, version, kindByte = 0, high = 0, low = 0] = bytes;
  const kind = (["name", "ipv4", "ipv6"] as const)[kindByte - 1];
  const port = high * 256 + low;
  const lengthBytes = bytes[EGRESS_HEAD_BYTES - 1] ?? 0;
  const wellFormed = e === 0x45 && o === 0x4f && version === VERSION && bytes.length === EGRESS_HEAD_BYTES;
  if (!wellFormed || kind === undefined || port === 0 || !isLength(kind, lengthBytes)) {
    throw refuse(`not an egress preface: ${Buffer.from(bytes.subarray(0, 32)).toString("hex")}`);
  }
  return { kind, port, token: bytes.slice(6, 6 + EGRESS_TOKEN_BYTES), lengthBytes };
}

function isLength(kind: EgressDestination["kind"], lengthBytes: number): boolean {
  if (kind === "name") return lengthBytes >= 1 && lengthBytes <= MAX_NAME_BYTES;
  return lengthBytes === (kind === "ipv4" ? 4 : 16);
}

/** @param bytes exactly `head.lengthBytes`. @throws E_EGRESS_PREFACE; whether a name is canonical is not asked. */
export function decodeEgressTarget(head: EgressHead, bytes: Uint8Array): EgressDestination {
  if (bytes.length !== head.lengthBytes) throw refuse("an egress preface was cut off");
  if (head.kind !== "name") return { kind: head.kind, bytes };
  if (bytes.some((byte) => byte <= 0x20 || byte >= 0x7f))
    throw refuse(`not a host name: ${Buffer.from(bytes).toString("hex")}`);
  return { kind: "name", name: Buffer.from(bytes).toString("latin1") };
}

export function encodeEgressAnswer(status: EgressStatus, token: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(0x45, 0x4f, VERSION, EGRESS_STATUS[status]), token]);
}

/** @throws E_EGRESS_PREFACE for anything but an answer to this token. */
export function decodeEgressAnswer(bytes: Uint8Array, token: Uint8Array): EgressStatus {
  const [e, o, version, code = 255] = bytes;
  const status = STATUSES[code];
  const wellFormed = e === 0x45 && o === 0x4f && version === VERSION && bytes.length === EGRESS_ANSWER_BYTES;
  if (!wellFormed || status === undefined)
    throw refuse(`not an answer of the host: ${Buffer.from(bytes).toString("hex")}`);
  if (Buffer.compare(bytes.subarray(4), token) !== 0) throw refuse("the host answered another stream");
  return status;
}

function refuse(message: string): KitError {
  return new KitError("E_EGRESS_PREFACE", message);
}
