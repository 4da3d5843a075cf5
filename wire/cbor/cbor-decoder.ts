/**
 * A strict reader of CBOR for bytes that nobody vouches for: one item, nothing after it, no key twice, text that is
 * UTF-8, bounded depth and number of items. Definite and indefinite lengths are both read. Nothing is allocated for a
 * length before that many bytes were seen to be there.
 */
import {
  ARGUMENT,
  BREAK,
  type CborKey,
  type CborMap,
  type CborValue,
  FALSE,
  MAJOR,
  NULL,
  TRUE,
} from "./cbor-value.ts";

export interface CborLimits {
  /** Of arrays, maps and tags within one another. */
  readonly maxDepth: number;
  /** Items in all, keys and values counted. */
  readonly maxItems: number;
}

export class CborError extends Error {
  /** Position of the byte at which reading stopped. */
  readonly offset: number;

  constructor(why: string, offset: number) {
    super(`${why} (byte ${offset})`);
    this.name = "CborError";
    this.offset = offset;
  }
}

/** @throws CborError, and nothing else for any bytes */
export function decodeCbor(bytes: Uint8Array, limits: CborLimits): CborValue {
  const reader = new CborReader(bytes, limits);
  const value = reader.item(0);
  reader.end();
  return value;
}

const STOP = Symbol("break");

interface Head {
  readonly major: number;
  /** Length, count or number; undefined: of indefinite length. */
  readonly argument: bigint | undefined;
}

class CborReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #limits: CborLimits;
  #offset = 0;
  #items = 0;

  constructor(bytes: Uint8Array, limits: CborLimits) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#limits = limits;
  }

  end(): void {
    if (this.#offset !== this.#bytes.length) throw this.#error("bytes after the item");
  }

  item(depth: number): CborValue {
    const value = this.#itemOrBreak(depth);
    if (value === STOP) throw this.#error("a break outside of an indefinite length");
    return value;
  }

  #itemOrBreak(depth: number): CborValue | typeof STOP {
    this.#items += 1;
    if (this.#items > this.#limits.maxItems) throw this.#error(`more than ${this.#limits.maxItems} items`);
    if (depth > this.#limits.maxDepth) throw this.#error(`deeper than ${this.#limits.maxDepth}`);
    if (this.#peek() === BREAK) {
      this.#offset += 1;
      return STOP;
    }
    if (this.#peek() >> 5 === MAJOR.simple) return this.#simple();
    return this.#valueOf(this.#head(), depth);
  }

  #valueOf({ major, argument }: Head, depth: number): CborValue {
    switch (major) {
      case MAJOR.bytes:
        return argument === undefined ? this.#chunks(MAJOR.bytes) : this.#take(argument);
      case MAJOR.text:
        return this.#text(argument === undefined ? this.#chunks(MAJOR.text) : this.#take(argument));
      case MAJOR.array:
        return this.#array(argument, depth);
      case MAJOR.map:
        return this.#map(argument, depth);
    }
    if (argument === undefined) throw this.#error("an indefinite length where none can be");
    if (major === MAJOR.tag) return { tag: Number(argument), value: this.item(depth + 1) };
    return toNumber(major === MAJOR.negative ? -1n - argument : argument);
  }

  #simple(): CborValue {
    const byte = this.#peek();
    const value = byte === FALSE ? false : byte === TRUE ? true : byte === NULL ? null : undefined;
    if (value === undefined) throw this.#error("a floating point or simple value");
    this.#offset += 1;
    return value;
  }

  #array(count: bigint | undefined, depth: number): CborValue[] {
    const values: CborValue[] = [];
    for (let left = count; left === undefined || left > 0n; left = left === undefined ? left : left - 1n) {
      const value = left === undefined ? this.#itemOrBreak(depth + 1) : this.item(depth + 1);
      if (value === STOP) break;
      values.push(value);
    }
    return values;
  }

  #map(count: bigint | undefined, depth: number): CborMap {
    const map = new Map<CborKey, CborValue>();
    for (let left = count; left === undefined || left > 0n; left = left === undefined ? left : left - 1n) {
      const key = left === undefined ? this.#itemOrBreak(depth + 1) : this.item(depth + 1);
      if (key === STOP) break;
      if (typeof key !== "string" && typeof key !== "number" && typeof key !== "bigint")
        throw this.#error("a key that is neither text nor number");
      if (map.has(key)) throw this.#error(`the key ${JSON.stringify(String(key).slice(0, 40))} twice`);
      map.set(key, this.item(depth + 1));
    }
    return map;
  }

  /** Strings of definite length up to a break. */
  #chunks(major: number): Uint8Array {
    const chunks: Uint8Array[] = [];
    while (this.#peek() !== BREAK) {
      this.#items += 1;
      if (this.#items > this.#limits.maxItems) throw this.#error(`more than ${this.#limits.maxItems} items`);
      const head = this.#head();
      if (head.major !== major || head.argument === undefined) throw this.#error("a chunk of another type");
      const chunk = this.#take(head.argument);
      if (major === MAJOR.text) this.#text(chunk);
      chunks.push(chunk);
    }
    this.#offset += 1;
    return concat(chunks);
  }

  #head(): Head {
    const first = this.#peek();
    this.#offset += 1;
    const [major, low] = [first >> 5, first & 31];
    if (low < ARGUMENT.one) return { major, argument: BigInt(low) };
    if (low === ARGUMENT.indefinite) return { major, argument: undefined };
    if (low > ARGUMENT.eight) throw this.#error("a reserved length");
    const sizeBytes = 1 << (low - ARGUMENT.one);
    const at = this.#offset;
    this.#skip(sizeBytes);
    if (sizeBytes === 8) return { major, argument: this.#view.getBigUint64(at) };
    const short = { 1: () => this.#view.getUint8(at), 2: () => this.#view.getUint16(at) }[sizeBytes];
    return { major, argument: BigInt(short?.() ?? this.#view.getUint32(at)) };
  }

  #take(sizeBytes: bigint): Uint8Array {
    const start = this.#offset;
    this.#skip(sizeBytes);
    return this.#bytes.subarray(start, this.#offset);
  }

  #skip(sizeBytes: bigint | number): void {
    if (BigInt(sizeBytes) > BigInt(this.#bytes.length - this.#offset))
      throw this.#error("the end is missing");
    this.#offset += Number(sizeBytes);
  }

  #peek(): number {
    const byte = this.#bytes[this.#offset];
    if (byte === undefined) throw this.#error("the end is missing");
    return byte;
  }

  #text(bytes: Uint8Array): string {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw this.#error("text that is not UTF-8");
    }
  }

  #error(why: string): CborError {
    return new CborError(why, this.#offset);
  }
}

function toNumber(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function concat(chunks: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let offset = 0;
  for (const chunk of chunks) {
    joined.set(chunk, offset);
    offset += chunk.length;
  }
  return joined;
}
