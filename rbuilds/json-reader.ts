import { KitError } from "../core/errors.ts";

/** Reads JSON of others step by step: what is not of the expected type is refused with its place. */
export class JsonReader {
  readonly #value: unknown;
  readonly #place: string;

  private constructor(value: unknown, place: string) {
    this.#value = value;
    this.#place = place;
  }

  /** @param place names the source in messages. @throws E_IMAGE_OCI */
  static parse(bytes: Uint8Array, place: string): JsonReader {
    try {
      return new JsonReader(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)), place);
    } catch (error) {
      throw new KitError("E_IMAGE_OCI", `${place} is not JSON`, { cause: error });
    }
  }

  refuse(why: string): KitError {
    return new KitError("E_IMAGE_OCI", `${this.#place} ${why}`);
  }

  has(key: string): boolean {
    return this.get(key).#value !== undefined;
  }

  /** The member `key`; reading a value out of a missing one is refused later, by its type. */
  get(key: string): JsonReader {
    const value = this.#value;
    const isMap = typeof value === "object" && value !== null && !Array.isArray(value);
    const member: unknown = isMap && Object.hasOwn(value, key) ? Reflect.get(value, key) : undefined;
    return new JsonReader(member ?? undefined, `${this.#place}.${key}`);
  }

  text(): string {
    if (typeof this.#value !== "string") throw this.refuse("is no text");
    return this.#value;
  }

  textOr(fallback: string): string {
    return this.#value === undefined ? fallback : this.text();
  }

  /** A whole number from 0 on. */
  integer(): number {
    const value = this.#value;
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0)
      throw this.refuse("is no whole number");
    return value;
  }

  items(maximum: number): JsonReader[] {
    const value = this.#value;
    if (!Array.isArray(value)) throw this.refuse("is no list");
    if (value.length > maximum) throw this.refuse(`has ${value.length} items; at most ${maximum} are read`);
    return value.map((item: unknown, index) => new JsonReader(item, `${this.#place}[${index}]`));
  }

  /** Items, or none where the list is missing or null. */
  itemsOr(maximum: number): JsonReader[] {
    return this.#value === undefined ? [] : this.items(maximum);
  }
}
