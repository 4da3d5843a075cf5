/**
 * A message of the Nitro Security Module, taken apart: CBOR as serde writes an enum of Rust ("externally tagged").
 *
 *   "GetRandom"                                a name alone: nothing more to say
 *   {"LockPCR": {"index": 16}}                 one name over a map of fields, in any order
 *   {"Error": "InvalidIndex"}                  one name over one value
 *
 * Lengths may be definite or not and numbers need not be shortest, as the CBOR of other people's encoders is; a key
 * twice, bytes after the message, tags, floating point and texts where bytes are due are refused.
 */
import { KitError } from "../../core/errors.ts";
import { decodeCbor } from "../cbor/cbor-decoder.ts";
import { encodeCbor } from "../cbor/cbor-encoder.ts";
import { CborError } from "../cbor/cbor-input.ts";
import type { CborMap, CborValue } from "../cbor/cbor-value.ts";
import { NSM_NUMBER_MAX } from "./nsm-limits.ts";

type MessageErrorCode = "E_NSM_REQUEST" | "E_NSM_RESPONSE";

/** The deepest is a list in the fields of a message; the longest list is that of the locked registers. */
const LIMITS = { maxDepth: 4, maxItems: 256 };
const SHOWN_CHARS = 40;

/** @returns the message `{name: {field: value, …}}` */
export function encodeNsmMessage(name: string, fields: readonly (readonly [string, CborValue])[]): Buffer {
  return encodeCbor(new Map([[name, new Map(fields)]]));
}

/** Every method throws a KitError of the code it was made with where the message is not as asked for. */
export class NsmFields {
  readonly name: string;
  readonly #code: MessageErrorCode;
  /** What the name stands over; undefined: nothing. */
  readonly #content: CborValue | undefined;

  constructor(bytes: Uint8Array, maxBytes: number, code: MessageErrorCode) {
    this.#code = code;
    this.name = "";
    const value = this.#decode(bytes, maxBytes);
    const [name, content] = typeof value === "string" ? [value] : this.#onlyEntry(value);
    this.name = name;
    this.#content = content;
  }

  #decode(bytes: Uint8Array, maxBytes: number): CborValue {
    try {
      return decodeCbor(bytes, { ...LIMITS, maxBytes });
    } catch (error) {
      if (!(error instanceof CborError)) throw error;
      throw new KitError(this.#code, `NSM: ${error.message}`, { cause: error });
    }
  }

  #onlyEntry(value: CborValue): readonly [string, CborValue] {
    const entries = isMap(value) ? [...value] : [];
    const [entry] = entries;
    if (entry === undefined || entries.length > 1 || typeof entry[0] !== "string")
      throw this.refuse("is neither a name nor a map with one name");
    return [entry[0], entry[1]];
  }

  /** The message is its name alone. */
  bare(): void {
    if (this.#content !== undefined) throw this.refuse("has fields");
  }

  /** There is a map of fields, and it has none but these. */
  only(...names: readonly string[]): void {
    const other = [...this.#fields().keys()].find((key) => !names.some((name) => name === key));
    if (other !== undefined)
      throw this.refuse(`has the unknown field ${JSON.stringify(String(other).slice(0, SHOWN_CHARS))}`);
  }

  /** 0 to 65535. */
  number(name: string): number {
    return this.#toNumber(name, this.#fields().get(name));
  }

  numbers(name: string): readonly number[] {
    const value = this.#fields().get(name);
    if (!Array.isArray(value)) throw this.refuse(`has no list ${name}`);
    return value.map((item: CborValue) => this.#toNumber(name, item));
  }

  boolean(name: string): boolean {
    const value = this.#fields().get(name);
    if (typeof value === "boolean") return value;
    throw this.refuse(`has no ${name} that is true or false`);
  }

  text(name: string): string {
    const value = this.#fields().get(name);
    if (typeof value === "string") return value;
    throw this.refuse(`has no text ${name}`);
  }

  bytes(name: string): Uint8Array {
    const value = this.#fields().get(name);
    if (value instanceof Uint8Array) return value;
    throw this.refuse(`has no byte string ${name}`);
  }

  /** Missing and null say the same. */
  optionalBytes(name: string): Uint8Array | null {
    return (this.#fields().get(name) ?? null) === null ? null : this.bytes(name);
  }

  /** What the name stands over is one of these texts. */
  oneOf<T extends string>(choices: readonly T[]): T {
    const found = choices.find((choice) => choice === this.#content);
    if (found !== undefined) return found;
    throw this.refuse("has a value that there is not");
  }

  refuse(why: string): KitError {
    return new KitError(this.#code, `NSM: ${JSON.stringify(this.name.slice(0, SHOWN_CHARS))} ${why}`);
  }

  #fields(): CborMap {
    if (isMap(this.#content)) return this.#content;
    throw this.refuse("has no fields");
  }

  #toNumber(name: string, value: CborValue | undefined): number {
    if (typeof value === "number" && value >= 0 && value <= NSM_NUMBER_MAX) return value;
    throw this.refuse(`has no ${name} that is a number of 16 bits`);
  }
}

function isMap(value: CborValue | undefined): value is CborMap {
  return value instanceof Map;
}
