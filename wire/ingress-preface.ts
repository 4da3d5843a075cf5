/**
 * Preface of an ingress connection (vsock 8444), then raw bytes both ways.
 *
 *   host     'E' 'I' 0x01 0x00  port (u16, big-endian)
 *   enclave  one status byte
 *
 * The enclave decides whether the port may be reached; the host's word is only a wish.
 */
import { KitError } from "../core/errors.ts";

export const INGRESS_PREFACE_BYTES = 6;

export const INGRESS_STATUS = {
  connected: 0,
  /** The measured configuration does not publish this port. */
  notPublished: 1,
  /** Nothing listens on the port now. */
  refused: 2,
  /** The enclave has no room for another connection. */
  busy: 3,
} as const;

export type IngressStatus = keyof typeof INGRESS_STATUS;

export function encodeIngressPreface(port: number): Uint8Array {
  return Uint8Array.of(0x45, 0x49, 1, 0, port >> 8, port & 0xff);
}

/** @param bytes exactly INGRESS_PREFACE_BYTES. @throws E_INGRESS_PREFACE */
export function decodeIngressPreface(bytes: Uint8Array): number {
  const [e, i, version, reserved, high = 0, low = 0] = bytes;
  const port = high * 256 + low;
  const wellFormed = e === 0x45 && i === 0x49 && version === 1 && reserved === 0;
  if (bytes.length !== INGRESS_PREFACE_BYTES || !wellFormed || port === 0) {
    throw new KitError("E_INGRESS_PREFACE", `not an ingress preface: ${Buffer.from(bytes).toString("hex")}`);
  }
  return port;
}

/** @throws E_INGRESS_PREFACE for a byte that is no status. */
export function decodeIngressStatus(byte: number): IngressStatus {
  for (const name of ["connected", "notPublished", "refused", "busy"] as const) {
    if (INGRESS_STATUS[name] === byte) return name;
  }
  throw new KitError("E_INGRESS_PREFACE", `not an ingress status: ${byte}`);
}
