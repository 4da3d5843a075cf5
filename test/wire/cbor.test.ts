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
  // RFC 8949, appendix A.
  test.each<[string, CborValue]>([
    ["00", 0],
    ["17", 23],
    ["1818", 24],
    ["1903e8", 1000],
    ["1a000f4240", 1_000_000],
    ["1b000000e8d4a51000", 1_000_000_000_000],
    ["1bffffffffffffffff", 18_446_744_073_709_551_615n],
    ["3bffffffffffffffff", -18_446_744_073_709_551_616n],
    ["3903e7", -1000],
    ["f4", false],
    ["f5", true],
    ["f6", null],
    ["c11a514b67b0", { tag: 1, value: 1_363_896_240 }],
    ["6461616161", "aaaa"],
    ["62c3bc", "ü"],
    ["64f0908591", "𐅑"],
    ["8301820203820405", [1, [2, 3], [4, 5]]],
    ["a201020304", new Map([[1, 2], [3, 4]])], // prettier-ignore
    ["4401020304", Uint8Array.of(1, 2, 3, 4)],
  ])("%s is read and written as the standard says", (hex, value) => {
    expect(decodeHex(hex, STRICT)).toEqual(value);
    expect(encodeCbor(value).toString("hex")).toBe(hex);
  });

  test.each<[string, CborValue]>([
    ["5f42010243030405ff", Uint8Array.of(1, 2, 3, 4, 5)],
    ["7f657374726561646d696e67ff", "streaming"],
    ["9fff", []],
    ["9f018202039f0405ffff", [1, [2, 3], [4, 5]]],
    ["bf61610161629f0203ffff", new Map<string, CborValue>([["a", 1], ["b", [2, 3]]])], // prettier-ignore
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

  test.each([
    ["", "the end is missing"],
    ["0000", "bytes after the item"],
    ["18", "the end is missing"],
    ["5affffffff00", "the end is missing"],
    ["5bffffffffffffffff00", "the end is missing"],
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
    ["f90000", "a floating point or simple value"],
    ["f7", "a floating point or simple value"],
    ["f820", "a floating point or simple value"],
    ["80".padStart(20, "81"), "deeper than 8"],
    ["c0".repeat(9) + "00", "deeper than 8"],
    ["9f".repeat(50_000), "deeper than 8"],
    ["9903e9" + "00".repeat(1001), "more than 1000 items"],
    ["5f" + "40".repeat(1001) + "ff", "more than 1000 items"],
    ["00".repeat(100_001), "more than 100000"],
  ])("%.40s is refused", (hex, why) => {
    expect(() => decodeHex(hex)).toThrow(CborError);
    expect(() => decodeHex(hex)).toThrow(why);
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
