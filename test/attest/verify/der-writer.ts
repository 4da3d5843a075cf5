/** Just enough DER to write certificates, right and wrong ones. */
import { DER_TAG } from "../../../wire/der/der-reader.ts";

export function der(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  return Buffer.concat([Buffer.from([tag]), lengthOf(content.length), content]);
}

function lengthOf(length: number): Buffer {
  if (length < 0x80) return Buffer.from([length]);
  return length < 0x100 ? Buffer.from([0x81, length]) : Buffer.from([0x82, length >> 8, length & 0xff]);
}

export function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(" ", ""), "hex");
}

export function sequence(...items: readonly Uint8Array[]): Buffer {
  return der(DER_TAG.sequence, ...items);
}

/** `id` is the OID's content in hex. */
export function oid(id: string): Buffer {
  return der(DER_TAG.oid, hex(id));
}

export function integer(content: string): Buffer {
  return der(DER_TAG.integer, hex(content));
}

export function bitString(content: Uint8Array, unused = 0): Buffer {
  return der(DER_TAG.bitString, Buffer.from([unused]), content);
}

/** 2025 to 260115120000Z. */
export function utcTime(timeMs: number): Buffer {
  const digits = new Date(timeMs).toISOString().replaceAll(/[-:T]|\.\d+Z/g, "");
  return der(DER_TAG.utcTime, Buffer.from(`${digits.slice(2)}Z`));
}

export function commonName(text: string): Buffer {
  const attribute = sequence(oid("550403"), der(DER_TAG.utf8String, Buffer.from(text)));
  return sequence(der(DER_TAG.set, attribute));
}

/** `value` is what the extension's octet string holds. */
export function extension(id: string, value: Uint8Array, isCritical = false): Buffer {
  const critical = isCritical ? [hex("0101ff")] : [];
  return sequence(oid(id), ...critical, der(DER_TAG.octetString, value));
}

export const BASIC_CONSTRAINTS = "551d13";
export const KEY_USAGE = "551d0f";

export function authority(pathLength?: number): Buffer {
  const limit = pathLength === undefined ? [] : [integer(pathLength.toString(16).padStart(2, "0"))];
  return extension(BASIC_CONSTRAINTS, sequence(hex("0101ff"), ...limit), true);
}

export const MAY_SIGN_CERTIFICATES = extension(KEY_USAGE, hex("03020204"), true);
export const MAY_SIGN_DATA = extension(KEY_USAGE, hex("030206c0"));
export const NO_AUTHORITY = extension(BASIC_CONSTRAINTS, sequence(), true);
