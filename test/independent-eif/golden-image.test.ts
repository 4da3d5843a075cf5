import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { crc32 } from "node:zlib";

import { readGolden, rebuildImage, type GoldenImage } from "./golden-image.ts";
import { readIndependently } from "./image-reader.ts";
import { readSignatureSection } from "./signature-section.ts";

const golden = await readGolden();
const signed = golden.images.filter(({ signature }) => signature !== undefined);

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "golden-eif-"));
});
afterAll(() => rm(directory, { recursive: true }));

async function read(bytes: Buffer, name: string) {
  const path = join(directory, `${name}.eif`);
  await writeFile(path, bytes);
  return readIndependently(path);
}

function section(image: GoldenImage): Buffer {
  return Buffer.from(image.signature?.sectionBase64 ?? "", "base64");
}

describe("an image of AWS's own tool", () => {
  test("is there unsigned and signed, with one ramdisk and with many", () => {
    expect(golden.images.length - signed.length).toBeGreaterThan(5);
    expect(new Set(signed.map(({ signature }) => signature?.certificate)).size).toBe(4);
    expect(new Set(golden.images.map(({ ramdisks }) => ramdisks.length))).toEqual(new Set([0, 1, 2, 3, 29]));
  });

  test.each(golden.images)(
    "with $name is rebuilt bit for bit, and read with the same registers",
    async (image) => {
      const bytes = rebuildImage(golden, image);
      expect(bytes.length).toBe(image.sizeBytes);
      expect(createHash("sha256").update(bytes).digest("hex")).toBe(image.sha256);
      const found = await read(bytes, image.sha256);
      expect(found).toMatchObject({
        version: 4,
        flags: image.flags,
        commandLine: image.commandLine,
        metadataText: golden.metadata[image.metadata],
        crcIsRight: true,
        crc32: Number.parseInt(image.crc32, 16),
        pcrs: image.pcrs,
      });
      expect(Object.keys(found.pcrs).sort()).toEqual(Object.keys(image.pcrs).sort());
      expect(found.ramdisks.map(({ sizeBytes }) => sizeBytes)).toEqual(
        image.ramdisks.map((name) => golden.inputs[name]?.lengthBytes),
      );
    },
  );

  test.each(golden.images)("with $name has metadata that JSON.stringify gives back", async (image) => {
    const text = golden.metadata[image.metadata] ?? "";
    expect(JSON.stringify(JSON.parse(text))).toBe(text);
  });
});

describe("a signature of AWS's own tool", () => {
  const algorithms: Record<string, string> = { "P-256": "ES256", "P-384": "ES384", "P-521": "ES512" };

  test.each(signed)("on $name verifies", async (image) => {
    const { signature, pcrs } = await read(rebuildImage(golden, image), `signed-${image.sha256}`);
    const certificate = golden.certificates[image.signature?.certificate ?? ""];
    expect(signature).toEqual({
      certificatePem: certificate?.pem,
      algorithm: algorithms[certificate?.curve ?? ""],
      payloadPcr0: image.pcrs["PCR0"],
      verifies: true,
    });
    expect(pcrs.PCR8).toBe(image.pcrs["PCR8"]);
  });

  test("no longer verifies on another image, though nothing else is wrong with it", async () => {
    const [image] = signed as [GoldenImage];
    const bytes = rebuildImage(golden, image);
    bytes.writeUInt8(bytes.readUInt8(600) ^ 1, 600);
    bytes.writeUInt32BE(crc32(bytes.subarray(548), crc32(bytes.subarray(0, 544))), 544);
    const { signature, pcrs } = await read(bytes, "other");
    expect(signature).toMatchObject({ verifies: false, payloadPcr0: image.pcrs["PCR0"] });
    expect(pcrs.PCR0).not.toBe(image.pcrs["PCR0"]);
  });

  test("never verifies as the same signature with any byte of it changed", () => {
    for (const image of signed) {
      const bytes = section(image);
      const right = readSignatureSection(bytes);
      expect(right.coseVerifies).toBe(true);
      for (let position = 0; position < bytes.length; position += 7) {
        const changed = Buffer.from(bytes);
        changed.writeUInt8(changed.readUInt8(position) ^ 1, position);
        expect(accepted(changed, right.certificateDer), `${image.name}, byte ${position}`).toBe(false);
      }
    }
  });

  test("is refused when cut, or when bytes follow it", () => {
    const bytes = section(signed[0] as GoldenImage);
    for (let length = 0; length < bytes.length; length += 13) {
      expect(() => readSignatureSection(bytes.subarray(0, length)), `${length} bytes`).toThrow();
    }
    expect(() => readSignatureSection(Buffer.concat([bytes, Buffer.alloc(1)]))).toThrow("1 bytes follow");
  });

  test("is said to be refused at the start of an enclave only where the certificate had expired", () => {
    for (const { signature } of signed) {
      const expired = signature?.certificate === "expired";
      expect(signature?.awsRunTimeCheck).toBe(expired ? "The signing certificate is expired" : "ok");
    }
  });

  function accepted(bytes: Buffer, certificateDer: Buffer): boolean {
    try {
      const found = readSignatureSection(bytes);
      return found.coseVerifies && found.certificateDer.equals(certificateDer);
    } catch {
      return false;
    }
  }
});
