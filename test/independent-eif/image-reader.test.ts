import { createHash } from "node:crypto";
import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { assembleImage, firstSections, METADATA, ramdisk, TYPES, type HandImage } from "./hand-assembly.ts";
import { readIndependently } from "./image-reader.ts";

let directory: string;
let count = 0;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "independent-eif-"));
});
afterAll(() => rm(directory, { recursive: true }));

async function read(image: Buffer) {
  const path = join(directory, `${count++}.eif`);
  await writeFile(path, image);
  return readIndependently(path);
}

function twoRamdisks(): HandImage["sections"] {
  return [...firstSections(), ramdisk("boot"), ramdisk("application")];
}

/** The register formula spelled out, with no part of the reader in it. */
function register(content: string): string {
  const inner = createHash("sha384").update(content).digest("hex");
  return createHash("sha384")
    .update(Buffer.from("00".repeat(48) + inner, "hex"))
    .digest("hex");
}

describe("an image assembled by hand", () => {
  test("is read with its sections, texts and registers", async () => {
    const image = await read(assembleImage({ sections: twoRamdisks() }));
    expect(image).toMatchObject({
      version: 4,
      flags: 0,
      architecture: "x86_64",
      commandLine: "console=ttyS0 quiet",
      metadata: METADATA,
      crcIsRight: true,
    });
    const metadataBytes = JSON.stringify(METADATA).length;
    const boot = 548 + 12 + 8 + 12 + 19 + 12 + metadataBytes;
    expect(image.sections).toEqual([
      { type: "kernel", offset: 548, sizeBytes: 8 },
      { type: "cmdline", offset: 568, sizeBytes: 19 },
      { type: "metadata", offset: 599, sizeBytes: metadataBytes },
      { type: "ramdisk", offset: boot, sizeBytes: 4 },
      { type: "ramdisk", offset: boot + 16, sizeBytes: 11 },
    ]);
    expect(image.ramdisks).toEqual([
      { offset: boot + 12, sizeBytes: 4 },
      { offset: boot + 28, sizeBytes: 11 },
    ]);
    expect(image.pcrs).toEqual({
      PCR0: register("a kernelconsole=ttyS0 quietbootapplication"),
      PCR1: register("a kernelconsole=ttyS0 quietboot"),
      PCR2: register("application"),
    });
    expect(image.signature).toBeUndefined();
  });

  test("with one ramdisk has a PCR2 that is not zero: the register of nothing", async () => {
    const { pcrs } = await read(assembleImage({ sections: [...firstSections(), ramdisk("boot")] }));
    expect(pcrs.PCR2).toBe(register(""));
    expect(pcrs.PCR0).toBe(pcrs.PCR1);
  });

  test("for aarch64 says so", async () => {
    const image = await read(assembleImage({ sections: twoRamdisks(), flags: 1 }));
    expect(image).toMatchObject({ flags: 1, architecture: "aarch64" });
  });

  test("of version 3 has no metadata", async () => {
    const sections = twoRamdisks().filter(({ type }) => type !== TYPES.metadata);
    expect(await read(assembleImage({ sections, version: 3 }))).toMatchObject({ version: 3, metadata: null });
  });

  test("may have 32 sections and no more", async () => {
    const disks = (length: number) => Array.from({ length }, (_, index) => ramdisk(`${index}`));
    const image = await read(assembleImage({ sections: [...firstSections(), ...disks(29)] }));
    expect(image.ramdisks).toHaveLength(29);
    const header = (bytes: Buffer): unknown => bytes.writeUInt16BE(33, 0x01a);
    const sections = [...firstSections(), ...disks(29)];
    await expect(read(assembleImage({ sections, spoil: header }))).rejects.toThrow(
      "33 sections, not 2 to 32",
    );
  });

  test("is refused with one bit flipped in any of its bytes", async () => {
    const image = assembleImage({ sections: twoRamdisks() });
    const path = join(directory, "flipped.eif");
    await writeFile(path, image);
    await readIndependently(path);
    await using file = await open(path, "r+");
    for (const [position, byte] of image.entries()) {
      await file.write(Buffer.from([byte ^ (1 << (position % 8))]), 0, 1, position);
      await expect(readIndependently(path), `byte ${position}`).rejects.toThrow();
      await file.write(Buffer.from([byte]), 0, 1, position);
    }
    await readIndependently(path);
  });

  test("is refused wherever it is cut", async () => {
    const image = assembleImage({ sections: twoRamdisks() });
    for (const length of [0, 3, 547, 548, 559, 560, 570, image.length - 12, image.length - 1]) {
      await expect(read(image.subarray(0, length)), `${length} bytes`).rejects.toThrow(
        /the file ends|ends at/,
      );
    }
  });
});

describe("an image whose CRC is right is refused when", () => {
  const [kernel, cmdline, metadata] = firstSections();
  const boot = ramdisk("boot");
  const sections = twoRamdisks();
  const cases: [string, HandImage, string][] = [
    ["its magic is another", { sections, spoil: (header) => header.write(".EIF") }, "the magic is 2e454946"],
    ["its version is 1", { sections, version: 1 }, "version 1 is not"],
    ["its version is 5", { sections, version: 5 }, "version 5 is not"],
    ["an unknown flag is set", { sections, flags: 2 }, "flags 2"],
    ["the first reserved field is set", { sections, spoil: (h) => h.writeUInt16BE(1, 0x018) }, "reserved"],
    ["the second reserved field is set", { sections, spoil: (h) => h.writeUInt32BE(1, 0x21c) }, "reserved"],
    [
      "it counts too few sections",
      { sections, spoil: (h) => h.writeUInt16BE(4, 0x01a) },
      "slot 4 of the table",
    ],
    ["it counts one section", { sections, spoil: (h) => h.writeUInt16BE(1, 0x01a) }, "1 sections"],
    [
      "an offset of the table is wrong",
      { sections, spoil: (h) => h.writeUInt8(9, 0x01c + 15) },
      "section 1 starts",
    ],
    [
      "an offset is beyond any file",
      { sections, spoil: (h) => h.writeUInt8(255, 0x01c) },
      "section 0 starts",
    ],
    [
      "a size of the table is wrong",
      { sections, spoil: (h) => h.writeUInt8(9, 0x11c + 15) },
      "section 1 says",
    ],
    ["an unused slot has a size", { sections, spoil: (h) => h.writeUInt8(1, 0x218) }, "slot 31 of the table"],
    ["bytes follow the last section", { sections, trailing: Buffer.alloc(1) }, "1 bytes follow"],
    ["a section has flags", { sections: [{ ...kernel, flags: 1 }, cmdline, metadata] }, "has flags"],
    [
      "a section has type 0",
      { sections: [kernel, cmdline, { type: 0, data: Buffer.alloc(1) }] },
      "section type 0",
    ],
    [
      "a section has type 6",
      { sections: [kernel, cmdline, { type: 6, data: Buffer.alloc(1) }] },
      "section type 6",
    ],
    ["it has two kernels", { sections: [kernel, kernel, cmdline, metadata] }, "exactly one kernel"],
    ["it has no command line", { sections: [kernel, metadata] }, "exactly one kernel"],
    ["it has no metadata", { sections: [kernel, cmdline, boot] }, "0 metadata sections in v4"],
    [
      "it has metadata twice",
      { sections: [kernel, cmdline, metadata, metadata] },
      "2 metadata sections in v4",
    ],
    ["it has metadata in version 3", { sections, version: 3 }, "1 metadata sections in v3"],
    ["a ramdisk is before the kernel", { sections: [boot, kernel, cmdline, metadata] }, "before the kernel"],
    ["the command line has a NUL", { sections: [kernel, hand(TYPES.cmdline, "a\0b"), metadata] }, "NUL byte"],
    ["the metadata is no JSON", { sections: [kernel, cmdline, hand(TYPES.metadata, "{")] }, "JSON"],
    ["the metadata lacks a key", { sections: [kernel, cmdline, hand(TYPES.metadata, "{}")] }, "has the keys"],
    ["the signature is over 32 KiB", { sections: [...sections, hand(4, "x".repeat(32_769))] }, "too long"],
    ["the signature is no CBOR", { sections: [...sections, hand(4, "\xff")] }, "CBOR"],
    ["it has two signatures", { sections: [...sections, hand(4, "x"), hand(4, "x")] }, "2 signatures"],
    [
      "it has a signature in version 2",
      { sections: [kernel, cmdline, hand(4, "x")], version: 2 },
      "1 signatures in v2",
    ],
  ];

  test.each(cases)("%s", async (_, image, message) => {
    await expect(read(assembleImage(image))).rejects.toThrow(message);
  });

  function hand(type: number, text: string) {
    return { type, data: Buffer.from(text, "latin1") };
  }
});
