import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { readEif } from "../../rbuilds/eif/read-eif.ts";
import { decodeEifMetadata } from "../../wire/eif/metadata.ts";
import { type GoldenImage, readGolden, rebuildImage } from "../independent-eif/golden-image.ts";
import { assembleImage, firstSections, ramdisk } from "../independent-eif/hand-assembly.ts";
import { readIndependently } from "../independent-eif/image-reader.ts";
import { type EifBed, openEifBed, repairChecksum } from "./eif-bed.ts";

const golden = await readGolden();

let bed: EifBed;
beforeAll(async () => {
  bed = await openEifBed();
});
afterAll(() => bed[Symbol.asyncDispose]());

async function read(bytes: Uint8Array) {
  return await readEif(await bed.bytes(bytes));
}

describe("an image of AWS's own tool", () => {
  test.each(golden.images)("with $name is read as that tool reads it", async (image) => {
    const path = await bed.bytes(rebuildImage(golden, image));
    const description = await readEif(path);
    expect(description).toMatchObject({
      version: 4,
      architecture: image.flags === 1 ? "aarch64" : "x86_64",
      sizeBytes: image.sizeBytes,
      sha256: image.sha256,
      crc32: Number.parseInt(image.crc32, 16),
      commandLine: image.commandLine,
      metadata: decodeEifMetadata(Buffer.from(golden.metadata[image.metadata] ?? "")),
      warnings: [],
    });
    expect(description.pcrs).toEqual(image.pcrs);
    const { sections } = await readIndependently(path);
    expect(description.sections.map(({ offset, sizeBytes }) => [offset - 12, sizeBytes])).toEqual(
      sections.map(({ offset, sizeBytes }) => [offset, sizeBytes]),
    );
  });

  test("has custom metadata with what was put into it", async () => {
    const image = golden.images.find(({ metadata }) => metadata === "rich");
    if (image === undefined) throw new Error("no image with rich metadata");
    const { metadata } = await read(rebuildImage(golden, image));
    expect(metadata).toMatchObject({
      dockerInfo: { Alpha: { a: "x", b: [1, 2.5, -3, null, true] }, Zulu: 1 },
      customMetadata: { Build: 7, list: [], team: "blue" },
    });
  });
});

describe("flags that nobody knows", () => {
  const [kernel, commandLine, metadata] = firstSections();
  const sections = [kernel, commandLine, metadata, ramdisk("boot")];

  test.each([
    [0x240, "x86_64", "0x240"],
    [0x241, "aarch64", "0x240"],
    [0x8000, "x86_64", "0x8000"],
    [0xffff, "aarch64", "0xfffe"],
  ])("0x%s are a warning, and the lowest is the architecture", async (flags, architecture, told) => {
    const plain = await read(assembleImage({ sections }));
    const found = await read(assembleImage({ sections, flags }));
    expect(found).toMatchObject({ architecture, warnings: [`unknown flags ${told}`] });
    expect(found.pcrs).toEqual(plain.pcrs);
  });
});

describe("NUL bytes at the end of a command line", () => {
  const [kernel, , metadata] = firstSections();

  function imageWith(commandLine: string): Buffer {
    return assembleImage({
      sections: [kernel, { type: 2, data: Buffer.from(commandLine) }, metadata, ramdisk("boot")],
    });
  }

  test.each([
    ["quiet\0", "quiet", 1],
    ["quiet\0\0\0", "quiet", 3],
    ["\0", "", 1],
    [`ü${"\0".repeat(4096)}`, "ü", 4096],
  ])("are left out of the text, told, and measured: case %#", async (given, shown, count) => {
    const found = await read(imageWith(given));
    expect(found).toMatchObject({
      commandLine: shown,
      warnings: [`the command line ends in ${count} NUL bytes`],
    });
    const content = createHash("sha384").update(kernel.data).update(given).update("boot").digest();
    const register = createHash("sha384").update(Buffer.alloc(48)).update(content).digest("hex");
    expect(found.pcrs.PCR0).toBe(register);
    expect(found.pcrs.PCR0).not.toBe((await read(imageWith(shown))).pcrs.PCR0);
  });
});

describe("an image that AWS's own tool signed a second time", () => {
  // Those of the same content: their signatures are each right for the other one.
  const [first, other] = ["two ramdisks, signed with P-384", "two ramdisks, signed with P-256"].map(
    (name) => {
      const found = golden.images.find((image) => image.name === name);
      if (found?.signature === undefined) throw new Error(`no image with ${name}`);
      return found;
    },
  ) as [GoldenImage, GoldenImage];
  const TABLE_SIZE_AT = 0x11c + 8 * 5;

  /** The second one's signature in place of the first one's, and the table as it was. */
  function signedAgain(from: GoldenImage, by: GoldenImage): Buffer {
    const at = (image: GoldenImage): number =>
      Number(Buffer.from(image.headerHex, "hex").readBigUInt64BE(0x01c + 8 * 5));
    expect(from.pcrs["PCR0"]).toBe(by.pcrs["PCR0"]);
    const body = rebuildImage(golden, from).subarray(0, at(from));
    return repairChecksum(Buffer.concat([body, rebuildImage(golden, by).subarray(at(by))]));
  }

  test.each([
    ["shorter", first, other],
    ["longer", other, first],
  ])("is refused, and why is said, where the signature is now %s", async (_, from, by) => {
    const bytes = signedAgain(from, by);
    await expect(read(bytes)).rejects.toMatchObject({
      code: "E_EIF_INVALID",
      message: expect.stringContaining("re-signed by a tool that does not update the table") as string,
    });
    bytes.writeBigUInt64BE(
      BigInt(Buffer.from(by.signature?.sectionBase64 ?? "", "base64").length),
      TABLE_SIZE_AT,
    );
    const found = await read(repairChecksum(bytes));
    expect(found.pcrs).toEqual(by.pcrs);
  });

  test("is the only one of which that is said", async () => {
    for (let slot = 0; slot < 5; slot++) {
      const bytes = rebuildImage(golden, first);
      const at = 0x11c + 8 * slot;
      bytes.writeBigUInt64BE(bytes.readBigUInt64BE(at) + 1n, at);
      await expect(read(repairChecksum(bytes))).rejects.toMatchObject({
        code: "E_EIF_INVALID",
        message: expect.not.stringContaining("re-signed") as string,
      });
    }
  });
});
