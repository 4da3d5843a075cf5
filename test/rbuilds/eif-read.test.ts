import { execFile } from "node:child_process";
import { open, readFile, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { readKernelVersion } from "../../rbuilds/eif/kernel-version.ts";
import { readEif } from "../../rbuilds/eif/read-eif.ts";
import {
  assembleImage,
  firstSections,
  type HandImage,
  ramdisk,
  TYPES,
} from "../independent-eif/hand-assembly.ts";
import { codeOf, type EifBed, openEifBed, repairChecksum } from "./eif-bed.ts";

const run = promisify(execFile);

let bed: EifBed;
beforeAll(async () => {
  bed = await openEifBed();
});
afterAll(() => bed[Symbol.asyncDispose]());

async function read(bytes: Uint8Array) {
  return await readEif(await bed.bytes(bytes));
}

async function codeOfBytes(bytes: Uint8Array): Promise<string | undefined> {
  await writeFile(bed.path("subject.eif"), bytes);
  return await codeOf(readEif(bed.path("subject.eif")));
}

const [kernel, commandLine, metadata] = firstSections();
const WHOLE = [kernel, commandLine, metadata, ramdisk("boot"), ramdisk("application")];

/** Positions in the header: entry `slot` of the tables. */
const offsetOf = (slot: number): number => 0x01c + 8 * slot;
const sizeOf = (slot: number): number => 0x11c + 8 * slot;

function spoilt(spoil: (header: Buffer) => void): HandImage {
  return { sections: WHOLE, spoil };
}

/** Moves everything from a position on by some bytes of zeros; offsets of the table from there on follow. */
function withGap(image: Buffer, at: number, gapBytes: number): Buffer {
  const bytes = Buffer.concat([image.subarray(0, at), Buffer.alloc(gapBytes), image.subarray(at)]);
  for (let slot = 0; slot < bytes.readUInt16BE(0x01a); slot++) {
    const offset = Number(bytes.readBigUInt64BE(offsetOf(slot)));
    if (offset >= at) bytes.writeBigUInt64BE(BigInt(offset + gapBytes), offsetOf(slot));
  }
  return repairChecksum(bytes);
}

describe("an image", () => {
  test("of version 4 is described", async () => {
    const description = await read(assembleImage({ sections: WHOLE, flags: 1 }));
    expect(description).toMatchObject({
      version: 4,
      architecture: "aarch64",
      defaultMemoryBytes: "1073741824",
      defaultCpus: "2",
      commandLine: "console=ttyS0 quiet",
      metadata: { imageName: "example", buildMetadata: { kernelVersion: "6.12.1" } },
      signature: null,
      warnings: [],
    });
    expect(description.sections.slice(0, 2)).toEqual([
      { kind: "kernel", offset: 560, sizeBytes: 8 },
      { kind: "commandLine", offset: 580, sizeBytes: 19 },
    ]);
  });

  test("of version 3 has no metadata", async () => {
    const sections = [kernel, commandLine, ramdisk("boot")];
    expect(await read(assembleImage({ sections, version: 3 }))).toMatchObject({ version: 3, metadata: null });
    expect(await codeOfBytes(assembleImage({ sections: WHOLE, version: 3 }))).toBe("E_EIF_INVALID");
    expect(await codeOfBytes(assembleImage({ sections, version: 4 }))).toBe("E_EIF_INVALID");
  });

  test("with gaps is read with a warning for each", async () => {
    const image = assembleImage({ sections: WHOLE });
    const straight = await read(image);
    const gapped = await read(withGap(withGap(image, 548 + 20, 4096), 548, 7));
    expect(gapped.pcrs).toEqual(straight.pcrs);
    expect(gapped.warnings).toEqual([
      "7 bytes before the kernel section belong to nothing",
      "4096 bytes before the commandLine section belong to nothing",
    ]);
  });
});

describe("an image that is refused", () => {
  const first = 548;
  const second = first + 12 + kernel.data.length;
  const huge = 2n ** 63n;
  const emptySignature = { type: TYPES.signature, data: Buffer.alloc(0) };

  test.each<[name: string, image: HandImage, code: string]>([
    ["bytes after its end", { sections: WHOLE, trailing: Buffer.alloc(1) }, "E_EIF_INVALID"],
    ["version 2", { sections: WHOLE, version: 2 }, "E_EIF_VERSION"],
    ["version 5", { sections: WHOLE, version: 5 }, "E_EIF_VERSION"],
    ["version 0", { sections: WHOLE, version: 0 }, "E_EIF_VERSION"],
    ["version 65535", { sections: WHOLE, version: 65_535 }, "E_EIF_VERSION"],
    ["no metadata", { sections: [kernel, commandLine, ramdisk("boot")] }, "E_EIF_INVALID"],
    [
      "metadata that is too large",
      { sections: [kernel, commandLine, { ...metadata, data: Buffer.alloc(16 * 1024 ** 2 + 1, " ") }] },
      "E_EIF_INVALID",
    ],
    ["no kernel", { sections: WHOLE.slice(1) }, "E_EIF_INVALID"],
    ["two kernels", { sections: [kernel, ...WHOLE] }, "E_EIF_INVALID"],
    ["two command lines", { sections: [kernel, commandLine, ...WHOLE.slice(1)] }, "E_EIF_INVALID"],
    ["two sets of metadata", { sections: [...WHOLE, metadata] }, "E_EIF_INVALID"],
    ["a ramdisk before its kernel", { sections: [ramdisk("boot"), ...WHOLE] }, "E_EIF_INVALID"],
    ["a section of type 0", { sections: [...WHOLE, { type: 0, data: Buffer.alloc(1) }] }, "E_EIF_INVALID"],
    ["a section of type 6", { sections: [...WHOLE, { type: 6, data: Buffer.alloc(1) }] }, "E_EIF_INVALID"],
    ["a section with flags", { sections: [...WHOLE, { ...ramdisk("x"), flags: 1 }] }, "E_EIF_INVALID"],
    [
      "a signature of zeros",
      { sections: [...WHOLE, { type: TYPES.signature, data: Buffer.alloc(9) }] },
      "E_EIF_SIGNATURE",
    ],
    [
      "an empty signature",
      { sections: [...WHOLE, { type: TYPES.signature, data: Buffer.alloc(0) }] },
      "E_EIF_SIGNATURE",
    ],
    [
      "a signature that is too long",
      { sections: [...WHOLE, { type: TYPES.signature, data: Buffer.alloc(32_769) }] },
      "E_EIF_INVALID",
    ],
    ["two signatures", { sections: [...WHOLE, emptySignature, emptySignature] }, "E_EIF_INVALID"],
    [
      "a NUL in its command line",
      { sections: [kernel, { ...commandLine, data: Buffer.from("a\0b") }, metadata] },
      "E_EIF_INVALID",
    ],
    [
      "NULs in and behind its command line",
      { sections: [kernel, { ...commandLine, data: Buffer.from("\0b\0\0") }, metadata] },
      "E_EIF_INVALID",
    ],
    [
      "a command line that is not UTF-8",
      { sections: [kernel, { ...commandLine, data: Buffer.of(0xff) }, metadata] },
      "E_EIF_INVALID",
    ],
    [
      "a command line that is too long",
      { sections: [kernel, { ...commandLine, data: Buffer.alloc(65_537, "x") }, metadata] },
      "E_EIF_INVALID",
    ],
    [
      "metadata that is no JSON",
      { sections: [kernel, commandLine, { ...metadata, data: Buffer.from("{") }] },
      "E_EIF_METADATA",
    ],
    ["no sections", spoilt((header) => header.writeUInt16BE(0, 0x01a)), "E_EIF_INVALID"],
    ["one section", spoilt((header) => header.writeUInt16BE(1, 0x01a)), "E_EIF_INVALID"],
    ["more sections than slots", spoilt((header) => header.writeUInt16BE(33, 0x01a)), "E_EIF_INVALID"],
    ["65535 sections", spoilt((header) => header.writeUInt16BE(65_535, 0x01a)), "E_EIF_INVALID"],
    ["one section less than it has", spoilt((header) => header.writeUInt16BE(4, 0x01a)), "E_EIF_INVALID"],
    ["one section more than it has", spoilt((header) => header.writeUInt16BE(6, 0x01a)), "E_EIF_INVALID"],
    [
      "a section inside the header",
      spoilt((header) => header.writeBigUInt64BE(500n, offsetOf(0))),
      "E_EIF_INVALID",
    ],
    ["a section at 2^63", spoilt((header) => header.writeBigUInt64BE(huge, offsetOf(4))), "E_EIF_INVALID"],
    [
      "a section at 2^64 - 12",
      spoilt((header) => header.writeBigUInt64BE(2n ** 64n - 12n, offsetOf(4))),
      "E_EIF_INVALID",
    ],
    [
      "a section of 2^63 bytes",
      spoilt((header) => header.writeBigUInt64BE(huge, sizeOf(0))),
      "E_EIF_INVALID",
    ],
    [
      "a section of 2^64 - 1 bytes",
      spoilt((header) => header.writeBigUInt64BE(2n ** 64n - 1n, sizeOf(4))),
      "E_EIF_INVALID",
    ],
    [
      "a size less than the section says",
      spoilt((header) => header.writeBigUInt64BE(7n, sizeOf(0))),
      "E_EIF_INVALID",
    ],
    [
      "a size more than the section says",
      spoilt((header) => header.writeBigUInt64BE(9n, sizeOf(0))),
      "E_EIF_INVALID",
    ],
    [
      "two slots for one section",
      spoilt((header) => header.writeBigUInt64BE(BigInt(first), offsetOf(4))),
      "E_EIF_INVALID",
    ],
    [
      "a slot between two sections",
      spoilt((header) => header.writeBigUInt64BE(BigInt(second - 1), offsetOf(1))),
      "E_EIF_INVALID",
    ],
    ["a used slot too many", spoilt((header) => header.writeBigUInt64BE(1n, offsetOf(31))), "E_EIF_INVALID"],
  ])("has %s", async (_, image, code) => {
    expect(await codeOfBytes(assembleImage(image))).toBe(code);
  });

  test("has a section within another one", async () => {
    // The second ramdisk is the data of the first, header and all.
    const inner = Buffer.concat([Buffer.from([0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4]), Buffer.from("data")]);
    const sections = [kernel, commandLine, metadata, { ...ramdisk(""), data: inner }];
    const image = assembleImage({ sections });
    expect(await codeOfBytes(image)).toBeUndefined();
    const outer = image.readBigUInt64BE(offsetOf(3));
    image.writeUInt16BE(5, 0x01a);
    image.writeBigUInt64BE(outer + 12n, offsetOf(4));
    image.writeBigUInt64BE(4n, sizeOf(4));
    expect(await codeOfBytes(repairChecksum(image))).toBe("E_EIF_INVALID");
  });

  test("ends too early, wherever that is", async () => {
    const image = assembleImage({ sections: WHOLE });
    for (let length = 0; length < image.length; length++)
      expect(await codeOfBytes(image.subarray(0, length)), `${length} bytes`).toBe("E_EIF_INVALID");
  });

  test("has a bit flipped, wherever that is", async () => {
    const image = assembleImage({ sections: WHOLE });
    for (let position = 0; position < image.length; position++) {
      const bytes = Buffer.from(image);
      bytes.writeUInt8(bytes.readUInt8(position) ^ (1 << (position % 8)), position);
      expect(await codeOfBytes(bytes), `byte ${position}`).toMatch(/^E_EIF_/);
    }
  });

  test("is sparse and too large, at once", async () => {
    const path = await bed.bytes(assembleImage({ sections: WHOLE }));
    await using file = await open(path, "r+");
    for (const sizeBytes of [1e9, 60e9]) {
      await file.truncate(sizeBytes);
      expect(await codeOf(readEif(path))).toBe("E_EIF_INVALID");
    }
    await file.truncate(1e12);
    expect(await codeOf(readEif(path))).toBe("E_EIF_TOO_LARGE");
  });

  test("is a sparse file of 60 GB that says so itself, when the reader is told to stop", async () => {
    const image = assembleImage({ sections: WHOLE });
    const last = Number(image.readBigUInt64BE(offsetOf(4)));
    const size = 60_000_000_000n - BigInt(last + 12);
    image.writeBigUInt64BE(size, sizeOf(4));
    image.writeBigUInt64BE(size, last + 4);
    const path = await bed.bytes(image);
    await using file = await open(path, "r+");
    await file.truncate(60e9);
    const abort = new AbortController();
    setImmediate(() => abort.abort());
    await expect(readEif(path, { signal: abort.signal })).rejects.toThrow("aborted");
  });

  test("is no file", async () => {
    expect(await codeOf(readEif(bed.path("absent.eif")))).toBe("E_EIF_FILE");
    expect(await codeOf(readEif(bed.directory))).toBe("E_EIF_FILE");
    expect(await codeOf(readEif("/dev/zero"))).toBe("E_EIF_FILE");
    await run("mkfifo", [bed.path("pipe")]);
    expect(await codeOf(readEif(bed.path("pipe")))).toBe("E_EIF_FILE");
  });
});

describe("any bytes", () => {
  const image = assembleImage({ sections: WHOLE });

  async function check(bytes: Buffer): Promise<void> {
    try {
      await read(bytes);
    } catch (error) {
      if (!(error instanceof KitError)) throw error;
      expect(error.code).toMatch(/^E_EIF_/);
    }
  }

  test("give a description or one coded refusal", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 2000 }), async (bytes) => {
        await check(Buffer.from(bytes));
        await check(Buffer.concat([image.subarray(0, 8), bytes]));
      }),
    );
  });

  test("in place of some of an image's, with the checksum made right, do so too", async () => {
    const change = fc.tuple(fc.nat(image.length - 9), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
        const bytes = Buffer.from(image);
        for (const [position, value] of changes)
          bytes.writeBigUInt64BE(value >> BigInt(position % 64), position);
        await check(repairChecksum(bytes));
      }),
      { numRuns: 300 },
    );
  });
});

describe("the version of a kernel", () => {
  function bzImage(text: string, pointer = 0x100): Buffer {
    const bytes = Buffer.alloc(0x1000);
    bytes.write("HdrS", 0x202, "latin1");
    bytes.writeUInt16LE(0x20f, 0x206);
    bytes.writeUInt16LE(pointer, 0x20e);
    if (0x200 + pointer < bytes.length) bytes.write(`${text}\0`, 0x200 + pointer, "latin1");
    return bytes;
  }

  async function versionOf(bytes: Buffer, offset = 0): Promise<string | undefined> {
    const path = await bed.bytes(Buffer.concat([Buffer.alloc(offset), bytes]));
    return await readKernelVersion(path, { offset, sizeBytes: bytes.length });
  }

  test("is read from its header, wherever the kernel lies in a file", async () => {
    const kernelImage = bzImage("6.12.1-enclave (builder@host) #1 SMP");
    expect(await versionOf(kernelImage)).toBe("6.12.1-enclave");
    expect(await versionOf(kernelImage, 560)).toBe("6.12.1-enclave");
  });

  test("is absent where the header does not tell it", async () => {
    const old = bzImage("2.0.0");
    old.writeUInt16LE(0x1ff, 0x206);
    const endless = bzImage("x".repeat(300));
    const cases = [
      Buffer.alloc(0),
      Buffer.from("a kernel"),
      bzImage("1", 0),
      bzImage("1", 0xffff),
      bzImage(""),
      old,
      endless,
    ];
    for (const bytes of cases) expect(await versionOf(bytes)).toBeUndefined();
  });

  test("is text or absent for any bytes", async () => {
    const anyKernel = fc.tuple(fc.uint8Array({ maxLength: 700 }), fc.nat(0xffff));
    await fc.assert(
      fc.asyncProperty(anyKernel, async ([content, pointer]) => {
        const bytes = bzImage("", pointer);
        Buffer.from(content).copy(bytes, 0x210);
        expect(["string", "undefined"]).toContain(typeof (await versionOf(bytes)));
      }),
    );
  });
});

test("a file that changes while it is read is refused", async () => {
  const { path } = await bed.write("changing.eif", {
    kernel: await bed.prepare(Buffer.alloc(64 * 1024 ** 2)),
  });
  const size = (await readFile(path)).length;
  const reading = codeOf(readEif(path));
  await using file = await open(path, "r+");
  await file.write(Buffer.of(1), 0, 1, size - 1);
  expect(await reading).toMatch(/^E_EIF_(INVALID|CRC)$/);
});
