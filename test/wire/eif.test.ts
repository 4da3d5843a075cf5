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
import { decodeEifMetadata, encodeEifMetadata } from "../../wire/eif/metadata.ts";
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
      [0x007, 2, "E_EIF_INVALID"],
      [0x006, 0x80, "E_EIF_INVALID"],
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

describe("the checksum of two pieces", () => {
  test("is combined from theirs", () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.uint8Array({ maxLength: 300 }), (first, second) => {
        const combined = combineCrc32(crc32(first), crc32(second), second.length);
        expect(combined).toBe(crc32(second, crc32(first)));
      }),
    );
  });

  test("is right for a second piece of more than 2^32 bytes", () => {
    // 5 GiB of zeros, by doubling.
    let zeros = crc32(Buffer.alloc(1024 ** 2));
    let length = 1024 ** 2;
    for (; length < 4 * 1024 ** 3; length *= 2) zeros = combineCrc32(zeros, zeros, length);
    const five = combineCrc32(zeros, combineCrc32(0, crc32(Buffer.alloc(1024)), 1024), 1024);
    expect(five).toBe(combineCrc32(zeros, crc32(Buffer.alloc(1024)), 1024));
    expect(combineCrc32(crc32("a"), zeros, length)).toBe(
      combineCrc32(
        combineCrc32(crc32("a"), zerosOf(length / 2), length / 2),
        zerosOf(length / 2),
        length / 2,
      ),
    );
  });
});

function zerosOf(length: number): number {
  let zeros = crc32(Buffer.alloc(1024));
  for (let done = 1024; done < length; done *= 2) zeros = combineCrc32(zeros, zeros, done);
  return zeros;
}

const text = fc.string({ unit: "grapheme", maxLength: 200 }).filter((value) => !value.includes("\0"));
const metadata = fc.record({
  imageName: text,
  imageVersion: text,
  buildMetadata: fc.record({
    buildTime: text,
    buildTool: text,
    buildToolVersion: text,
    operatingSystem: text,
    kernelVersion: text,
  }),
  dockerInfo: fc.jsonValue(),
  customMetadata: fc.jsonValue(),
});

describe("the metadata of an image", () => {
  test("is read as it was written", () => {
    fc.assert(
      fc.property(metadata, (value) => {
        const again = decodeEifMetadata(encodeEifMetadata(value));
        expect(JSON.stringify(again)).toBe(JSON.stringify(value));
      }),
    );
  });

  test("is written bit for bit as by AWS's tool", async () => {
    const { metadata: texts } = await readGolden();
    expect(Object.keys(texts).length).toBeGreaterThan(1);
    for (const each of Object.values(texts))
      expect(encodeEifMetadata(decodeEifMetadata(Buffer.from(each))).toString()).toBe(each);
  });

  const whole = {
    ImageName: "a",
    ImageVersion: "1",
    BuildMetadata: {
      BuildTime: "",
      BuildTool: "",
      BuildToolVersion: "",
      OperatingSystem: "",
      KernelVersion: "",
    },
    DockerInfo: null,
    CustomMetadata: null,
  };

  test("is refused with any key missing, and with one more", () => {
    expect(decodeEifMetadata(Buffer.from(JSON.stringify(whole))).imageName).toBe("a");
    for (const key of Object.keys(whole))
      expect(
        codeOf(() => decode({ ...whole, [key]: undefined })),
        key,
      ).toBe("E_EIF_METADATA");
    for (const key of Object.keys(whole.BuildMetadata)) {
      const build = { ...whole.BuildMetadata, [key]: undefined };
      expect(
        codeOf(() => decode({ ...whole, BuildMetadata: build })),
        key,
      ).toBe("E_EIF_METADATA");
    }
    expect(codeOf(() => decode({ ...whole, More: 1 }))).toBe("E_EIF_METADATA");
  });

  test.each(["", "null", "[]", "{", "\u00ef\u00bb\u00bf{}", "\u0080"])("%j is refused", (bytes) => {
    expect(codeOf(() => decodeEifMetadata(Buffer.from(bytes, "latin1")))).toBe("E_EIF_METADATA");
  });

  test("nested a million times is refused, not a crash of whoever prints it", () => {
    const deep = "[".repeat(1_000_000) + "]".repeat(1_000_000);
    const bytes = Buffer.from(JSON.stringify(whole).replace('"DockerInfo":null', `"DockerInfo":${deep}`));
    expect(codeOf(() => decodeEifMetadata(bytes))).toBe("E_EIF_METADATA");
  });

  test("that could not be read again is not written", () => {
    const value = decodeEifMetadata(Buffer.from(JSON.stringify(whole)));
    expect(codeOf(() => encodeEifMetadata({ ...value, imageName: "a\0b" }))).toBe("E_EIF_METADATA");
  });
});

function decode(value: unknown): unknown {
  return decodeEifMetadata(Buffer.from(JSON.stringify(value)));
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
