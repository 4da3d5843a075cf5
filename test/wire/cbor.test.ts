import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { type CborLimits, decodeCbor } from "../../wire/cbor/cbor-decoder.ts";
import { encodeCbor } from "../../wire/cbor/cbor-encoder.ts";
import { CborError } from "../../wire/cbor/cbor-input.ts";
import type { CborValue } from "../../wire/cbor/cbor-value.ts";

const LIMITS: CborLimits = { maxDepth: 8, maxItems: 1000, maxBytes: 100_000 };
const STRICT: CborLimits = { ...LIMITS, definiteOnly: true, shortestOnly: true };

function decodeHex(hex: string, limits: CborLimits = LIMITS): CborValue {
  return decodeCbor(Buffer.from(hex, "hex"), limits);
}

/** Integers as the decoder gives them: bigint only where a number is not exact. */
const integer = fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n - 1n }).map((value) => {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
});
const text = fc.string({ unit: "binary" });
const key = fc.oneof(text, integer);

const { value: anyValue } = fc.letrec<{ value: CborValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, depthSize: "small" },
    integer,
    text,
    fc.boolean(),
    fc.constant(null),
    fc.uint8Array(),
    fc.array(tie("value"), { maxLength: 5 }),
    fc.array(fc.tuple(key, tie("value")), { maxLength: 5 }).map((entries) => new Map(entries)),
    fc.record({ tag: fc.nat(), value: tie("value") }),
  ),
}));

describe("CBOR", () => {
  // RFC 8949, appendix A, but for floating point and simple values.
  // prettier-ignore
  test.each<[string, CborValue]>([
    ["00", 0],
    ["01", 1],
    ["0a", 10],
    ["17", 23],
    ["1818", 24],
    ["1819", 25],
    ["1864", 100],
    ["1903e8", 1000],
    ["1a000f4240", 1_000_000],
    ["1b000000e8d4a51000", 1_000_000_000_000],
    ["1bffffffffffffffff", 18_446_744_073_709_551_615n],
    ["c249010000000000000000", { tag: 2, value: Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 0) }],
    ["3bffffffffffffffff", -18_446_744_073_709_551_616n],
    ["c349010000000000000000", { tag: 3, value: Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 0) }],
    ["20", -1],
    ["29", -10],
    ["3863", -100],
    ["3903e7", -1000],
    ["f4", false],
    ["f5", true],
    ["f6", null],
    ["c074323031332d30332d32315432303a30343a30305a", { tag: 0, value: "2013-03-21T20:04:00Z" }],
    ["c11a514b67b0", { tag: 1, value: 1_363_896_240 }],
    ["d74401020304", { tag: 23, value: Uint8Array.of(1, 2, 3, 4) }],
    ["d818456449455446", { tag: 24, value: Uint8Array.of(0x64, 0x49, 0x45, 0x54, 0x46) }],
    ["d82076687474703a2f2f7777772e6578616d706c652e636f6d", { tag: 32, value: "http://www.example.com" }],
    ["40", new Uint8Array()],
    ["4401020304", Uint8Array.of(1, 2, 3, 4)],
    ["60", ""],
    ["6161", "a"],
    ["6449455446", "IETF"],
    ["62225c", '"\\'],
    ["62c3bc", "ü"],
    ["63e6b0b4", "水"],
    ["64f0908591", "𐅑"],
    ["80", []],
    ["83010203", [1, 2, 3]],
    ["8301820203820405", [1, [2, 3], [4, 5]]],
    ["98190102030405060708090a0b0c0d0e0f101112131415161718181819", Array.from({ length: 25 }, (_, i) => i + 1)],
    ["a0", new Map()],
    ["a201020304", new Map([[1, 2], [3, 4]])],
    ["a26161016162820203", new Map<string, CborValue>([["a", 1], ["b", [2, 3]]])],
    ["826161a161626163", ["a", new Map([["b", "c"]])]],
    ["a56161614161626142616361436164614461656145", new Map([["a", "A"], ["b", "B"], ["c", "C"], ["d", "D"], ["e", "E"]])],
  ])("%s is read and written as the standard says", (hex, value) => {
    expect(decodeHex(hex, STRICT)).toEqual(value);
    expect(encodeCbor(value).toString("hex")).toBe(hex);
  });

  // prettier-ignore
  test.each<[string, CborValue]>([
    ["5f42010243030405ff", Uint8Array.of(1, 2, 3, 4, 5)],
    ["5fff", new Uint8Array()],
    ["7f657374726561646d696e67ff", "streaming"],
    ["7fff", ""],
    ["9fff", []],
    ["9f018202039f0405ffff", [1, [2, 3], [4, 5]]],
    ["9f01820203820405ff", [1, [2, 3], [4, 5]]],
    ["83018202039f0405ff", [1, [2, 3], [4, 5]]],
    ["83019f0203ff820405", [1, [2, 3], [4, 5]]],
    ["9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff", Array.from({ length: 25 }, (_, i) => i + 1)],
    ["bfff", new Map()],
    ["bf61610161629f0203ffff", new Map<string, CborValue>([["a", 1], ["b", [2, 3]]])],
    ["826161bf61626163ff", ["a", new Map([["b", "c"]])]],
    ["bf6346756ef563416d7421ff", new Map<string, CborValue>([["Fun", true], ["Amt", -2]])],
  ])("%s, of indefinite length, is read unless that is forbidden", (hex, value) => {
    expect(decodeHex(hex)).toEqual(value);
    expect(() => decodeHex(hex, STRICT)).toThrow("an indefinite length");
  });

  test.each(["1817", "190017", "1a0000ffff", "1b00000000ffffffff", "580161", "7801aa", "980100", "b801f6f6"])(
    "%s, longer than it need be, is refused where the shortest form is asked for",
    (hex) => {
      expect(() => decodeHex(hex, STRICT)).toThrow("in more bytes than it needs");
    },
  );

  test.each(
    [
      ["", "the end is missing"],
      ["0000", "bytes after the item"],
      ["18", "the end is missing"],
      ["5affffffff00", "the end is missing"],
      ["5bffffffffffffffff00", "the end is missing"],
      ["5b800000000000000000", "the end is missing"],
      ["7b800000000000000000", "the end is missing"],
      ["9b800000000000000000", "the end is missing"],
      ["bb800000000000000000", "the end is missing"],
      ["5f5b8000000000000000ff", "the end is missing"],
      ["9bffffffffffffffff", "the end is missing"],
      ["bbffffffffffffffff", "the end is missing"],
      ["1c", "a reserved length"],
      ["3f", "an indefinite length where none can be"],
      ["df00", "an indefinite length where none can be"],
      ["ff", "a break outside of an indefinite length"],
      ["81ff", "a break outside of an indefinite length"],
      ["bf00ff", "a break outside of an indefinite length"],
      ["c1ff", "a break outside of an indefinite length"],
      ["a2010001ff", "twice"],
      ["a2616100616101", "twice"],
      ["a2010018010000", "twice"],
      ["a18000", "a key that is neither text nor number"],
      ["61ff", "text that is not UTF-8"],
      ["7f61c361bcff", "text that is not UTF-8"],
      ["5f6161ff", "a piece of another type"],
      ["5f5f4101ffff", "a piece of another type"],
      ["7f4161ff", "a piece of another type"],
      ["7f7f6161ffff", "a piece of another type"],
      ["5f00ff", "a piece of another type"],
      ["5f", "the end is missing"],
      ["9f", "the end is missing"],
      ["bf00", "the end is missing"],
      ["1d", "a reserved length"],
      ["1e", "a reserved length"],
      ["fc", "a floating point or simple value"],
      ["1f", "an indefinite length where none can be"],
      ...[
        "f90000",
        "fa47c35000",
        "fb3ff199999999999a",
        "f97e00",
        "f7",
        "f0",
        "f818",
        "f8ff",
        "f820",
        "c1fb41d452d9ec200000",
      ].map((hex): [string, string] => [hex, "a floating point or simple value"]),
      ["80".padStart(20, "81"), "deeper than 8"],
      ["c0".repeat(9) + "00", "deeper than 8"],
      ["9f".repeat(50_000), "deeper than 8"],
      ["9903e9" + "00".repeat(1001), "more than 1000 items"],
      ["5f" + "40".repeat(1001) + "ff", "more than 1000 items"],
      ["00".repeat(100_001), "more than 100000"],
    ].map(([hex = "", why = ""]) => [hex.slice(0, 40), why, hex] as const),
  )("%s is refused: %s", (_, why, hex) => {
    expect(() => decodeHex(hex)).toThrow(CborError);
    expect(() => decodeHex(hex)).toThrow(why);
  });

  test("a length that lies allocates nothing", () => {
    const { arrayBuffers, heapUsed } = process.memoryUsage();
    for (const major of [2, 3, 4, 5])
      for (const length of [
        "5a7fffffff",
        "5a3fffffff",
        "5b0000000100000000",
        "5b001fffffffffffff",
        "5b7fffffffffffffff",
      ]) {
        const bytes = Buffer.from(length, "hex");
        bytes.writeUInt8((major << 5) | (bytes.readUInt8(0) & 31), 0);
        expect(() => decodeCbor(bytes, LIMITS)).toThrow("the end is missing");
      }
    const after = process.memoryUsage();
    expect(after.arrayBuffers - arrayBuffers).toBeLessThan(64_000_000);
    expect(after.heapUsed - heapUsed).toBeLessThan(64_000_000);
  });

  test("byte strings are views of the input, not copies", () => {
    const bytes = Buffer.concat([Buffer.from("5903e8", "hex"), Buffer.alloc(1000)]);
    const value = decodeCbor(bytes, LIMITS);
    expect(value instanceof Uint8Array && value.buffer === bytes.buffer).toBe(true);
  });

  test("what is written is read again, also strictly", () => {
    fc.assert(
      fc.property(anyValue, (value) => {
        expect(decodeCbor(encodeCbor(value), STRICT)).toEqual(value);
      }),
    );
  });

  test("any bytes give a value or a CborError", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeCbor(bytes, LIMITS);
        } catch (error) {
          expect(error).toBeInstanceOf(CborError);
        }
      }),
      { numRuns: 3000 },
    );
  });

  test("a value in strict form is written as the bytes it was read from", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        let value: CborValue;
        try {
          value = decodeCbor(bytes, STRICT);
        } catch {
          return;
        }
        expect(encodeCbor(value)).toEqual(Buffer.from(bytes));
      }),
      { numRuns: 3000 },
    );
  });

  test("what CBOR cannot say is the caller's mistake", () => {
    for (const value of [1.5, 2 ** 53, Number.NaN, 2n ** 64n, -(2n ** 64n) - 1n, "\ud800"])
      expect(() => encodeCbor(value)).toThrow(RangeError);
  });
});
