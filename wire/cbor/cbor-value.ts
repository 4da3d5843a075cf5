/** What CBOR can say, as far as the toolkit reads and writes it (RFC 8949). Floating point and simple values are left out. */
export type CborValue =
  /** Safe integers; larger ones are bigint. */
  number | bigint | string | boolean | null | Uint8Array | readonly CborValue[] | CborMap | CborTag;

export type CborKey = number | bigint | string;
export type CborMap = ReadonlyMap<CborKey, CborValue>;

export interface CborTag {
  readonly tag: number | bigint;
  readonly value: CborValue;
}

/** The three high bits of an item's first byte. */
export const MAJOR = {
  unsigned: 0,
  negative: 1,
  bytes: 2,
  text: 3,
  array: 4,
  map: 5,
  tag: 6,
  simple: 7,
} as const;

/** The five low bits: the argument follows in 1, 2, 4 or 8 bytes, or there is none and the end is marked. */
export const ARGUMENT = { one: 24, two: 25, four: 26, eight: 27, indefinite: 31 } as const;

export const FALSE = 0xf4;
export const TRUE = 0xf5;
export const NULL = 0xf6;
export const BREAK = 0xff;
