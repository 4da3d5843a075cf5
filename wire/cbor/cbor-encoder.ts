/** Writes CBOR with the shortest heads and definite lengths (RFC 8949, section 4.1); maps keep their order. */
import { joinBytes } from "../../core/bytes.ts";
import { ARGUMENT, type CborTag, type CborValue, FALSE, MAJOR, NULL, TRUE } from "./cbor-value.ts";

/** @throws RangeError for a number that is no safe integer, an integer of more than 64 bits, text with half a surrogate pair */
export function encodeCbor(value: CborValue): Buffer {
  return Buffer.from(encodeCborBytes(value).buffer);
}

/** The same where there is no Buffer: in browsers. */
export function encodeCborBytes(value: CborValue): Uint8Array<ArrayBuffer> {
  const chunks: Uint8Array[] = [];
  write(value, chunks);
  return joinBytes(chunks);
}

function write(value: CborValue, chunks: Uint8Array[]): void {
  if (value === null) chunks.push(Uint8Array.of(NULL));
  else if (typeof value === "boolean") chunks.push(Uint8Array.of(value ? TRUE : FALSE));
  else if (typeof value === "number" || typeof value === "bigint") chunks.push(encodeInteger(value));
  else if (typeof value === "string") chunks.push(...encodeText(value));
  else if (value instanceof Uint8Array) chunks.push(head(MAJOR.bytes, value.length), value);
  else writeContainer(value, chunks);
}

function writeContainer(
  value: readonly CborValue[] | ReadonlyMap<number | bigint | string, CborValue> | CborTag,
  chunks: Uint8Array[],
): void {
  if (isList(value)) {
    chunks.push(head(MAJOR.array, value.length));
    for (const item of value) write(item, chunks);
  } else if ("tag" in value) {
    chunks.push(head(MAJOR.tag, value.tag));
    write(value.value, chunks);
  } else {
    chunks.push(head(MAJOR.map, value.size));
    for (const [key, item] of value) {
      write(key, chunks);
      write(item, chunks);
    }
  }
}

/** Array.isArray does not know read-only lists. */
function isList(value: object): value is readonly CborValue[] {
  return Array.isArray(value);
}

function encodeText(value: string): [head: Uint8Array, text: Uint8Array] {
  if (!value.isWellFormed()) throw new RangeError("CBOR: text with half a surrogate pair");
  const text = new TextEncoder().encode(value);
  return [head(MAJOR.text, text.length), text];
}

function encodeInteger(value: number | bigint): Uint8Array {
  if (typeof value === "number" && !Number.isSafeInteger(value))
    throw new RangeError(`CBOR: ${value} is no safe integer`);
  const whole = BigInt(value);
  return whole < 0n ? head(MAJOR.negative, -1n - whole) : head(MAJOR.unsigned, whole);
}

function head(major: number, argument: number | bigint): Uint8Array {
  const value = BigInt(argument);
  if (value < 0n) throw new RangeError(`CBOR: a tag below zero: ${value}`);
  const first = major << 5;
  if (value < BigInt(ARGUMENT.one)) return Uint8Array.of(first | Number(value));
  const power = value <= 0xffn ? 0 : value <= 0xffffn ? 1 : value <= 0xffff_ffffn ? 2 : 3;
  if (value > 0xffff_ffff_ffff_ffffn) throw new RangeError(`CBOR: ${value} has more than 64 bits`);
  const bytes = new Uint8Array(9);
  new DataView(bytes.buffer).setBigUint64(1, value);
  const short = bytes.subarray(8 - 2 ** power);
  short[0] = first | (ARGUMENT.one + power);
  return short;
}
