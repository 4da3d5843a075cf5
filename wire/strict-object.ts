/**
 * Reads JSON objects field by field and refuses whatever was not asked for: wrong types, missing fields, unknown
 * fields, values out of range. For decoders that run where no schema library may be.
 */

/** Makes the error of one decoder from a sentence that begins with the place. */
export type Refuse = (message: string) => Error;

export interface IntegerRange {
  readonly minimum: number;
  readonly maximum: number;
}

export interface TextLimit {
  readonly pattern?: RegExp;
  /** In UTF-16 units; 4096 unless told. */
  readonly maximum?: number;
}

const DEFAULT_TEXT_MAXIMUM = 4096;

export class StrictObject {
  readonly #fields: ReadonlyMap<string, unknown>;
  readonly #place: string;
  readonly #refuse: Refuse;

  /** @param keys every key that may be there. */
  constructor(value: unknown, place: string, keys: readonly string[], refuse: Refuse) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw refuse(`${place}: must be an object`);
    }
    this.#fields = new Map(Object.entries(value));
    this.#place = place;
    this.#refuse = refuse;
    for (const key of this.#fields.keys()) {
      if (!keys.includes(key)) throw refuse(`${place}: unknown key ${JSON.stringify(key.slice(0, 64))}`);
    }
  }

  has(key: string): boolean {
    return this.#fields.has(key);
  }

  raw(key: string): unknown {
    return this.#fields.get(key);
  }

  text(key: string, limit: TextLimit = {}): string {
    return readText(this.raw(key), limit, this.#refusalAt(key));
  }

  boolean(key: string): boolean {
    const value = this.raw(key);
    if (typeof value !== "boolean") throw this.#refusalAt(key)("must be true or false");
    return value;
  }

  integer(key: string, range: IntegerRange): number {
    return readInteger(this.raw(key), range, this.#refusalAt(key));
  }

  /** One of a closed set of words. */
  word<T extends string>(key: string, words: readonly T[]): T {
    const value = this.raw(key);
    const word = words.find((known) => known === value);
    if (word === undefined) throw this.#refusalAt(key)(`must be one of ${words.join(", ")}`);
    return word;
  }

  object(key: string, keys: readonly string[]): StrictObject {
    return new StrictObject(this.raw(key), this.place(key), keys, this.#refuse);
  }

  /** @param read gets each item with its place. */
  list<T>(key: string, maximum: number, read: (item: unknown, place: string) => T): T[] {
    const value = this.raw(key);
    if (!Array.isArray(value)) throw this.#refusalAt(key)("must be a list");
    if (value.length > maximum) throw this.#refusalAt(key)(`has more than ${maximum} items`);
    return value.map((item: unknown, index) => read(item, `${this.place(key)}[${index}]`));
  }

  texts(key: string, maximum: number, limit: TextLimit = {}): string[] {
    return this.list(key, maximum, (item, place) => readText(item, limit, refusal(this.#refuse, place)));
  }

  integers(key: string, maximum: number, range: IntegerRange): number[] {
    return this.list(key, maximum, (item, place) => readInteger(item, range, refusal(this.#refuse, place)));
  }

  place(key: string): string {
    return `${this.#place}.${key}`;
  }

  #refusalAt(key: string): Refuse {
    return refusal(this.#refuse, this.place(key));
  }
}

function refusal(refuse: Refuse, place: string): Refuse {
  return (message) => refuse(`${place}: ${message}`);
}

function readText(value: unknown, limit: TextLimit, refuse: Refuse): string {
  if (typeof value !== "string") throw refuse("must be a string");
  if (value.includes("\0")) throw refuse("must not contain a NUL character");
  if (value.length > (limit.maximum ?? DEFAULT_TEXT_MAXIMUM)) throw refuse("is too long");
  if (limit.pattern !== undefined && !limit.pattern.test(value)) throw refuse("has a forbidden form");
  return value;
}

function readInteger(value: unknown, { minimum, maximum }: IntegerRange, refuse: Refuse): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= minimum && value <= maximum) {
    return value;
  }
  throw refuse(`must be an integer from ${minimum} to ${maximum}`);
}
