/**
 * A strict reader of CBOR for bytes that nobody vouches for: one item, nothing after it, no key twice, text that is
 * UTF-8, bounded depth and number of items. Nothing is allocated for a length before that many bytes were
 * seen to be there. Byte strings of the result are views of the input, but for those of indefinite length.
 */
import { joinBytes } from "../../core/bytes.ts";
import { type CborHead, CborInput } from "./cbor-input.ts";
import { BREAK, type CborKey, type CborMap, type CborValue, FALSE, MAJOR, NULL, TRUE } from "./cbor-value.ts";

export interface CborLimits {
  /** Of arrays, maps and tags within one another. */
  readonly maxDepth: number;
  /** Items in all, keys and values and pieces of strings counted. */
  readonly maxItems: number;
  /** Of the whole input. */
  readonly maxBytes: number;
  /** Refuses indefinite lengths. */
  readonly definiteOnly?: boolean;
  /** Refuses numbers and lengths that fewer bytes could have said. */
  readonly shortestOnly?: boolean;
}

/** @throws CborError, and nothing else for any bytes */
export function decodeCbor(bytes: Uint8Array, limits: CborLimits): CborValue {
  const input = new CborInput(bytes, limits.shortestOnly === true);
  if (bytes.length > limits.maxBytes)
    throw input.error(`${bytes.length} bytes, more than ${limits.maxBytes}`);
  const value = new CborReader(input, limits).item(0);
  input.end();
  return value;
}

const STOP = Symbol("break");
/** More items than any length can say. */
const UNBOUNDED = 2n ** 64n;

class CborReader {
  readonly #input: CborInput;
  readonly #limits: CborLimits;
  readonly #utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  #items = 0;

  constructor(input: CborInput, limits: CborLimits) {
    this.#input = input;
    this.#limits = limits;
  }

  item(depth: number): CborValue {
    const value = this.#itemOrBreak(depth);
    if (value === STOP) throw this.#input.error("a break outside of an indefinite length");
    return value;
  }

  #itemOrBreak(depth: number): CborValue | typeof STOP {
    this.#count();
    if (depth > this.#limits.maxDepth) throw this.#input.error(`deeper than ${this.#limits.maxDepth}`);
    const first = this.#input.peek();
    if (first === BREAK) {
      this.#input.skip(1);
      return STOP;
    }
    return first >> 5 === MAJOR.simple ? this.#simple(first) : this.#valueOf(this.#head(), depth);
  }

  #count(): void {
    this.#items += 1;
    const { maxItems } = this.#limits;
    if (this.#items > maxItems) throw this.#input.error(`more than ${maxItems} items`);
  }

  #head(): CborHead {
    const head = this.#input.head();
    if (head.argument === undefined && this.#limits.definiteOnly === true)
      throw this.#input.error("an indefinite length");
    return head;
  }

  #valueOf({ major, argument }: CborHead, depth: number): CborValue {
    switch (major) {
      case MAJOR.bytes:
        return argument === undefined ? this.#chunks(MAJOR.bytes) : this.#input.take(argument);
      case MAJOR.text:
        return this.#text(argument === undefined ? this.#chunks(MAJOR.text) : this.#input.take(argument));
      case MAJOR.array:
        return this.#array(argument, depth);
      case MAJOR.map:
        return this.#map(argument, depth);
    }
    if (argument === undefined) throw this.#input.error("an indefinite length where none can be");
    if (major === MAJOR.tag) return { tag: toNumber(argument), value: this.item(depth + 1) };
    return toNumber(major === MAJOR.negative ? -1n - argument : argument);
  }

  #simple(byte: number): CborValue {
    const value = byte === FALSE ? false : byte === TRUE ? true : byte === NULL ? null : undefined;
    if (value === undefined) throw this.#input.error("a floating point or simple value");
    this.#input.skip(1);
    return value;
  }

  #array(count: bigint | undefined, depth: number): CborValue[] {
    const values: CborValue[] = [];
    const wanted = count ?? UNBOUNDED;
    while (values.length < wanted) {
      const value = count === undefined ? this.#itemOrBreak(depth + 1) : this.item(depth + 1);
      if (value === STOP) break;
      values.push(value);
    }
    return values;
  }

  #map(count: bigint | undefined, depth: number): CborMap {
    const map = new Map<CborKey, CborValue>();
    const wanted = count ?? UNBOUNDED;
    while (map.size < wanted) {
      const key = count === undefined ? this.#itemOrBreak(depth + 1) : this.item(depth + 1);
      if (key === STOP) break;
      if (typeof key !== "string" && typeof key !== "number" && typeof key !== "bigint")
        throw this.#input.error("a key that is neither text nor number");
      if (map.has(key)) throw this.#input.error(`the key ${JSON.stringify(String(key).slice(0, 40))} twice`);
      map.set(key, this.item(depth + 1));
    }
    return map;
  }

  /** Strings of definite length up to a break. */
  #chunks(major: number): Uint8Array {
    const chunks: Uint8Array[] = [];
    while (this.#input.peek() !== BREAK) {
      this.#count();
      const head = this.#head();
      if (head.major !== major || head.argument === undefined)
        throw this.#input.error("a piece of another type");
      const chunk = this.#input.take(head.argument);
      if (major === MAJOR.text) this.#text(chunk);
      chunks.push(chunk);
    }
    this.#input.skip(1);
    return joinBytes(chunks);
  }

  #text(bytes: Uint8Array): string {
    try {
      return this.#utf8.decode(bytes);
    } catch {
      throw this.#input.error("text that is not UTF-8");
    }
  }
}

function toNumber(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
