/**
 * IP addresses and networks: strict text to bytes and back. One address has one text: IPv4 as four decimal numbers
 * without leading zeros, IPv6 as RFC 5952 writes it, and an IPv4 address mapped into IPv6 (::ffff:0:0/96, RFC 4291) as
 * IPv4, because that is where the kernel connects.
 */
import { isIPv4, isIPv6 } from "node:net";

import { KitError } from "../../core/errors.ts";
import { quoteText } from "./quoted-text.ts";

export interface Network {
  /** Canonical, always with the length of its prefix; host bits are zero. */
  readonly text: string;
  readonly family: 4 | 6;
  readonly bits: number;
  readonly bytes: Uint8Array;
}

const NETWORK = /^([0-9a-fA-F:.]{2,45})(?:\/(0|[1-9][0-9]{0,2}))?$/;
const MAPPED = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);
/** The longest IPv6 text has 45. */
const MAX_TEXT = 64;

/** `10.0.0.0/8`, `fd00::/8`, or an address for itself alone. @throws E_EGRESS_RULE */
export function parseNetwork(text: string): Network {
  const [, place = "", length] = NETWORK.exec(text) ?? [];
  const address = parseAddress(place);
  if (address === undefined) throw refuse(text, "write 10.0.0.0/8 or fd00::/8");
  const bytes = addressBytes(address);
  const width = bytes.length * 8;
  // The length that is written with a mapped address counts in IPv6.
  if (place.includes(":") && width === 32) throw refuse(text, "write IPv4 networks as such");
  const bits = length === undefined ? width : Number(length);
  if (bits > width) throw refuse(text, `a prefix has at most ${width} bits`);
  const masked = bytes.map((byte, index) => byte & maskOf(bits, index));
  if (Buffer.compare(masked, bytes) !== 0)
    throw refuse(text, `bits beyond the prefix must be zero: ${formatAddress(masked)}/${bits}`);
  return { text: `${address}/${bits}`, family: width === 32 ? 4 : 6, bits, bytes };
}

/** False for an address of the other family. */
export function contains({ bytes, bits }: Network, address: Uint8Array): boolean {
  if (address.length !== bytes.length) return false;
  const whole = bits >> 3;
  for (let at = 0; at < whole; at += 1) if (bytes[at] !== address[at]) return false;
  return whole === bytes.length || bytes[whole] === ((address[whole] ?? 0) & maskOf(bits, whole));
}

/** Canonical text of an address. Undefined for all else: zones, brackets, short, octal and hexadecimal IPv4. */
export function parseAddress(text: string): string | undefined {
  if (text.length > MAX_TEXT) return undefined;
  if (isIPv4(text)) return text;
  return isIPv6(text) && !text.includes("%") ? formatAddress(ipv6Bytes(text)) : undefined;
}

/** 4 or 16 bytes. @param canonical as parseAddress gives it. @throws TypeError for another text */
export function addressBytes(canonical: string): Uint8Array {
  const bytes = canonicalAddressBytes(canonical);
  if (bytes === undefined)
    throw new TypeError(`not the canonical text of an address: ${quoteText(canonical)}`);
  return bytes;
}

/** 4 or 16 bytes; undefined for a text that parseAddress would not give. */
export function canonicalAddressBytes(text: string): Uint8Array | undefined {
  if (isIPv4(text)) return Uint8Array.from(text.split(".").map(Number));
  if (!isIPv6(text) || text.includes("%")) return undefined;
  const bytes = ipv6Bytes(text);
  return formatAddress(bytes) === text ? bytes : undefined;
}

/** Canonical text of 4 or 16 bytes. @throws RangeError for any other number of bytes */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  if (bytes.length !== 16) throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
  if (Buffer.compare(bytes.subarray(0, 12), MAPPED) === 0) return bytes.subarray(12).join(".");
  const groups = Array.from({ length: 8 }, (_item, at) =>
    (((bytes[2 * at] ?? 0) << 8) | (bytes[2 * at + 1] ?? 0)).toString(16),
  );
  return compress(groups);
}

/** The first of the longest runs of two or more zero groups becomes `::`. */
function compress(groups: readonly string[]): string {
  let best = { at: 0, length: 1 };
  for (let at = 0; at < groups.length; at += 1) {
    let length = 0;
    while (groups[at + length] === "0") length += 1;
    if (length > best.length) best = { at, length };
  }
  if (best.length < 2) return groups.join(":");
  return `${groups.slice(0, best.at).join(":")}::${groups.slice(best.at + best.length).join(":")}`;
}

/** @param text that isIPv6 takes, without a zone */
function ipv6Bytes(text: string): Uint8Array {
  const [, head = text, tail] = /^(.*:)([0-9]+\.[0-9.]+)$/.exec(text) ?? [];
  const plain = tail === undefined ? text : `${head}${toGroups(tail)}`;
  const [left = "", right] = plain.split("::");
  const before = left === "" ? [] : left.split(":");
  const after = right === undefined || right === "" ? [] : right.split(":");
  const zeros = Array.from({ length: right === undefined ? 0 : 8 - before.length - after.length }, () => "0");
  const values = [...before, ...zeros, ...after].map((group) => Number.parseInt(group, 16));
  return Uint8Array.from(values.flatMap((value) => [value >> 8, value & 0xff]));
}

function toGroups(ipv4: string): string {
  const [a = 0, b = 0, c = 0, d = 0] = ipv4.split(".").map(Number);
  return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}

/** Of the byte at `index`, the bits that the prefix covers. */
function maskOf(bits: number, index: number): number {
  const left = Math.min(8, Math.max(0, bits - index * 8));
  return (0xff << (8 - left)) & 0xff;
}

function refuse(text: string, why: string): KitError {
  return new KitError("E_EGRESS_RULE", `${quoteText(text)} is no network: ${why}`);
}
