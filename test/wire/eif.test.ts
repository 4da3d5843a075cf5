import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { crc32 } from "node:zlib";

import { KitError } from "../../core/errors.ts";
import { combineCrc32 } from "../../wire/eif/crc32-combine.ts";
import {
  decodeEifHeader,
  decodeSectionHeader,
  encodeEifHeader,
  encodeSectionHeader,
} from "../../wire/eif/eif-header.ts";
import { decodeSignatureSection, encodeSignatureSection } from "../../wire/eif/signature-section.ts";
import { readGolden } from "../independent-eif/golden-image.ts";

function codeOf(act: () => unknown): string | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(KitError);
    return error instanceof KitError ? error.code : "not coded";
  }
}

const architecture = fc.constantFrom("x86_64" as const, "aarch64" as const);
const size = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const table = fc.array(fc.record({ offset: size, sizeBytes: size }), { minLength: 2, maxLength: 32 });
const sum = fc.integer({ min: 0, max: 0xffff_ffff });

describe("the header of an image", () => {
  test("is read as it was written", () => {
    fc.assert(
      fc.property(architecture, table, sum, (arch, sections, checksum) => {
        const bytes = encodeEifHeader({ architecture: arch, table: sections, crc32: checksum });
        expect(decodeEifHeader(bytes)).toEqual({
          version: 4,
          architecture: arch,
          unknownFlags: 0,
          defaultMemoryBytes: 1_073_741_824n,
          defaultCpus: 2n,
          table: sections.map(({ offset, sizeBytes }) => ({
            offset: BigInt(offset),
            sizeBytes: BigInt(sizeBytes),
          })),
          crc32: checksum,
        });
      }),
    );
  });

  test("is refused with one code where any reserved byte, slot, count or version is wrong", () => {
    const good = encodeEifHeader({
      architecture: "x86_64",
      table: [
        { offset: 548, sizeBytes: 1 },
        { offset: 561, sizeBytes: 1 },
      ],
      crc32: 0,
    });
    const wrong: [position: number, byte: number, code: string][] = [
      [0x000, 0x2f, "E_EIF_INVALID"],
      [0x005, 2, "E_EIF_VERSION"],
      [0x005, 5, "E_EIF_VERSION"],
      [0x004, 1, "E_EIF_VERSION"],
      [0x018, 1, "E_EIF_INVALID"],
      [0x01b, 0, "E_EIF_INVALID"],
      [0x01b, 1, "E_EIF_INVALID"],
      [0x01b, 33, "E_EIF_INVALID"],
      [0x01a, 0xff, "E_EIF_INVALID"],
      [0x01c + 16, 1, "E_EIF_INVALID"],
      [0x21b, 1, "E_EIF_INVALID"],
      [0x21f, 1, "E_EIF_INVALID"],
    ];
    for (const [position, byte, code] of wrong) {
      const bytes = Buffer.from(good);
      bytes.writeUInt8(byte, position);
      expect(
        codeOf(() => decodeEifHeader(bytes)),
        `byte ${position}`,
      ).toBe(code);
    }
    expect(codeOf(() => decodeEifHeader(good.subarray(0, 547)))).toBe("E_EIF_INVALID");
  });

  test("has the architecture in the lowest flag, whatever the others are", () => {
    fc.assert(
      fc.property(fc.nat(0xffff), (flags) => {
        const bytes = encodeEifHeader({
          architecture: "x86_64",
          table: [
            { offset: 548, sizeBytes: 1 },
            { offset: 561, sizeBytes: 1 },
          ],
          crc32: 0,
        });
        bytes.writeUInt16BE(flags, 0x006);
        expect(decodeEifHeader(bytes)).toMatchObject({
          architecture: flags % 2 === 1 ? "aarch64" : "x86_64",
          unknownFlags: flags - (flags % 2),
        });
      }),
    );
  });

  test("of any bytes is read or refused", () => {
    const magic = Buffer.from(".eif\0\x04\0\0", "latin1");
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 0, maxLength: 560 }), (bytes) => {
        codeOf(() => decodeEifHeader(bytes));
        codeOf(() => decodeEifHeader(Buffer.concat([magic, bytes])));
      }),
    );
  });
});

describe("the header of a section", () => {
  test("is read as it was written", () => {
    const kind = fc.constantFrom("kernel", "commandLine", "ramdisk", "signature", "metadata");
    fc.assert(
      fc.property(kind, size, (each, sizeBytes) => {
        const expected = { kind: each, sizeBytes: BigInt(sizeBytes) };
        expect(decodeSectionHeader(encodeSectionHeader(each, sizeBytes))).toEqual(expected);
      }),
    );
  });

  test.each(["000000000000000000000001", "000600000000000000000001", "000100010000000000000001"])(
    "%s is refused",
    (hex) => {
      expect(codeOf(() => decodeSectionHeader(Buffer.from(hex, "hex")))).toBe("E_EIF_INVALID");
    },
  );
});

const GIB = 1024 ** 3;
/** Python's zlib.crc32 over as many zeros. */
const ZEROS: [lengthBytes: number, sum: number][] = [
  [4 * GIB, 0xd202_ef8d],
  [5 * GIB, 0x1938_38c3],
  [8 * GIB + 1, 0xff41_d912],
];

describe("the checksum of two pieces", () => {
  test("is combined from theirs", () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.uint8Array({ maxLength: 300 }), (first, second) => {
        const combined = combineCrc32(crc32(first), crc32(second), second.length);
        expect(combined).toBe(crc32(second, crc32(first)));
      }),
    );
  });

  test.each(ZEROS)("is that of all bytes also where they are %d zeros", (lengthBytes, expected) => {
    expect(zerosOf(lengthBytes)).toBe(expected);
  });

  test("does not depend on where three of up to 2^33 bytes are put together first", () => {
    const piece = fc.record({ checksum: sum, length: fc.integer({ min: 0, max: 2 ** 33 }) });
    fc.assert(
      fc.property(sum, piece, piece, (first, second, third) => {
        const left = combineCrc32(
          combineCrc32(first, second.checksum, second.length),
          third.checksum,
          third.length,
        );
        const last = combineCrc32(second.checksum, third.checksum, third.length);
        expect(left).toBe(combineCrc32(first, last, second.length + third.length));
      }),
    );
  });
});

/** Put together from halves, down to a byte. */
function zerosOf(length: number): number {
  if (length <= 1) return crc32(Buffer.alloc(length));
  const half = Math.floor(length / 2);
  const halves = zerosOf(half);
  const even = combineCrc32(halves, halves, half);
  return length % 2 === 0 ? even : combineCrc32(even, crc32(Buffer.alloc(1)), 1);
}

describe("the signature section", () => {
  test("of AWS's tool is written again bit for bit from what was read", async () => {
    const { images } = await readGolden();
    const sections = images.flatMap(({ signature }) =>
      signature === undefined ? [] : [Buffer.from(signature.sectionBase64, "base64")],
    );
    expect(sections.length).toBeGreaterThan(3);
    for (const section of sections) {
      const { certificatePem, algorithm, registerValue, signature } = decodeSignatureSection(section);
      const again = encodeSignatureSection({ certificatePem, algorithm, pcr0: registerValue, signature });
      expect(again).toEqual(section);
    }
  });

  test("of any bytes is read or refused as such", async () => {
    const { images } = await readGolden();
    const section = Buffer.from(
      images.find(({ signature }) => signature)?.signature?.sectionBase64 ?? "",
      "base64",
    );
    const refusals = new Set([undefined, "E_EIF_SIGNATURE"]);
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => refusals.has(codeOf(() => decodeSignatureSection(bytes)))),
    );
    fc.assert(
      fc.property(fc.nat(section.length - 1), fc.nat(255), (position, byte) => {
        const bytes = Buffer.from(section);
        bytes.writeUInt8(byte, position);
        return refusals.has(codeOf(() => decodeSignatureSection(bytes)));
      }),
    );
  });
});
