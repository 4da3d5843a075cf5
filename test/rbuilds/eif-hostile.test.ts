import { execFile } from "node:child_process";
import { appendFileSync, truncateSync } from "node:fs";
import { open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { readEif } from "../../rbuilds/eif/read-eif.ts";
import { assembleImage, firstSections, METADATA, ramdisk } from "../independent-eif/hand-assembly.ts";
import { codeOf, type EifBed, openEifBed, repairChecksum } from "./eif-bed.ts";

const run = promisify(execFile);

const GIB = 1024 ** 3;
const HALF_GIB = GIB / 2;
const [kernel, commandLine, metadata] = firstSections();
const WHOLE = [kernel, commandLine, metadata, ramdisk("boot"), ramdisk("application")];
const offsetAt = (slot: number): number => 0x01c + 8 * slot;
const sizeAt = (slot: number): number => 0x11c + 8 * slot;

let bed: EifBed;
let signed: Buffer;
beforeAll(async () => {
  bed = await openEifBed();
  const { path } = await bed.write("signed.eif", { signing: await bed.pair("prime256v1") });
  signed = await readFile(path);
});
afterAll(() => bed[Symbol.asyncDispose]());

/** The file takes no more room than the bytes at its beginning. */
async function sparse(bytes: Uint8Array, sizeBytes: number): Promise<string> {
  const path = await bed.bytes(bytes);
  await using file = await open(path, "r+");
  await file.truncate(sizeBytes);
  return path;
}

describe("a sparse file of 6 GiB is refused before any of it is hashed", () => {
  /** Hashing would find the signal, and reject with its reason. */
  async function refusalAtOnce(path: string): Promise<string | undefined> {
    return await codeOf(readEif(path, { signal: AbortSignal.abort() }));
  }

  test("where it is nothing but zeros", async () => {
    expect(await refusalAtOnce(await sparse(Buffer.alloc(0), 6 * GIB))).toBe("E_EIF_INVALID");
  });

  test("where it is an image and zeros", async () => {
    expect(await refusalAtOnce(await sparse(assembleImage({ sections: WHOLE }), 6 * GIB))).toBe(
      "E_EIF_INVALID",
    );
  });

  test.each<[name: string, spoil: (image: Buffer, lastAt: number) => void]>([
    [
      "a section that ends behind it",
      (image, lastAt) => setSize(image, lastAt, BigInt(6 * GIB - lastAt - 11)),
    ],
    [
      "a section that ends before its end",
      (image, lastAt) => setSize(image, lastAt, BigInt(6 * GIB - lastAt - 13)),
    ],
    [
      "a section of which only the table is large",
      (image) => void image.writeBigUInt64BE(BigInt(5 * GIB), sizeAt(4)),
    ],
    [
      "a section that begins in its zeros",
      (image) => void image.writeBigUInt64BE(BigInt(3 * GIB), offsetAt(4)),
    ],
    ["a command line of 5 GiB", (image) => setCommandLineSize(image, BigInt(5 * GIB))],
    ["a command line of 2^63 bytes", (image) => setCommandLineSize(image, 2n ** 63n)],
  ])("where it has %s", async (_, spoil) => {
    const image = assembleImage({ sections: WHOLE });
    spoil(image, Number(image.readBigUInt64BE(offsetAt(4))));
    expect(await refusalAtOnce(await sparse(repairChecksum(image), 6 * GIB))).toBe("E_EIF_INVALID");
  });

  test("unless it is an image all through, whose checksum must be computed", async () => {
    const image = assembleImage({ sections: WHOLE });
    const lastAt = Number(image.readBigUInt64BE(offsetAt(4)));
    setSize(image, lastAt, BigInt(6 * GIB - lastAt - 12));
    expect(await refusalAtOnce(await sparse(image, 6 * GIB)).catch(String)).toContain("AbortError");
  });

  function setSize(image: Buffer, sectionAt: number, sizeBytes: bigint): void {
    image.writeBigUInt64BE(sizeBytes, sizeAt(4));
    image.writeBigUInt64BE(sizeBytes, sectionAt + 4);
  }

  function setCommandLineSize(image: Buffer, sizeBytes: bigint): void {
    image.writeBigUInt64BE(sizeBytes, sizeAt(1));
    image.writeBigUInt64BE(sizeBytes, Number(image.readBigUInt64BE(offsetAt(1))) + 4);
  }
});

describe("the memory of a reader", () => {
  const READER = join(import.meta.dirname, "..", "fixtures", "rbuilds", "eif-reader.ts");
  /** Node itself takes 60 to 100. */
  const LIMIT_MIB = 250;

  async function readApart(path: string): Promise<{ code: string; peakMib: number }> {
    const { stdout } = await run(process.execPath, [READER, path]);
    return JSON.parse(stdout) as { code: string; peakMib: number };
  }

  test("does not grow with the image", async () => {
    const image = assembleImage({ sections: WHOLE });
    const lastAt = Number(image.readBigUInt64BE(offsetAt(4)));
    image.writeBigUInt64BE(BigInt(HALF_GIB - lastAt - 12), sizeAt(4));
    image.writeBigUInt64BE(BigInt(HALF_GIB - lastAt - 12), lastAt + 4);
    const { code, peakMib } = await readApart(await sparse(image, HALF_GIB));
    expect(code).toBe("E_EIF_CRC");
    expect(peakMib).toBeLessThan(LIMIT_MIB);
  });

  test.each(["[]", "{}", '"a"', '{"a":1}', "["])(
    "does not grow with metadata of nothing but %s",
    async (unit) => {
      const text = JSON.stringify(METADATA);
      const room = 16 * 1024 ** 2 - text.length;
      const values = Array(Math.floor(room / (unit.length + 1)))
        .fill(unit)
        .join(",");
      const data = Buffer.from(text.replace('"DockerInfo":null', () => `"DockerInfo":[${values}]`));
      const { code, peakMib } = await readApart(
        await bed.bytes(assembleImage({ sections: [kernel, commandLine, { ...metadata, data }] })),
      );
      expect(code).toBe("E_EIF_METADATA");
      expect(peakMib).toBeLessThan(LIMIT_MIB);
    },
  );
});

describe("a file that changes in the middle of being read", () => {
  test.each([
    ["became shorter", (path: string) => truncateSync(path, 1024 ** 2)],
    ["lost its end", (path: string) => truncateSync(path, 8 * 1024 ** 2)],
    ["became empty", (path: string) => truncateSync(path, 0)],
    ["became longer", (path: string) => appendFileSync(path, "more")],
  ])("because it %s is refused", async (_, change) => {
    const data = Buffer.alloc(8 * 1024 ** 2);
    const path = await bed.bytes(assembleImage({ sections: [{ ...kernel, data }, commandLine, metadata] }));
    expect(await codeOf(readEif(path))).toBeUndefined();
    // The reader asks its signal before each block.
    const { signal } = new AbortController();
    let asked = 0;
    signal.throwIfAborted = () => {
      asked += 1;
      if (asked === 4) change(path);
    };
    expect(await codeOf(readEif(path, { signal }))).toBe("E_EIF_INVALID");
    expect(asked).toBeGreaterThanOrEqual(4);
  });
});

describe("a signed image", () => {
  test("is refused wherever it was cut off", async () => {
    const path = bed.path("cut.eif");
    for (let length = 0; length < signed.length; length++) {
      await writeFile(path, signed.subarray(0, length));
      expect(await codeOf(readEif(path)), `${length} bytes`).toBe("E_EIF_INVALID");
    }
  });

  test("is refused with anything behind it", async () => {
    for (const more of [Buffer.alloc(1), Buffer.alloc(12), Buffer.alloc(4096), signed])
      expect(await codeOf(readEif(await bed.bytes(repairChecksum(Buffer.concat([signed, more])))))).toBe(
        "E_EIF_INVALID",
      );
  });

  test("with any of its bytes in other places gives a description or one coded refusal", async () => {
    const change = fc.record({
      from: fc.nat(signed.length),
      to: fc.nat(signed.length),
      size: fc.nat(64),
      byte: fc.nat(255),
    });
    const path = bed.path("mutated.eif");
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), fc.nat(40), async (changes, cut) => {
        const bytes = Buffer.from(signed);
        for (const { from, to, size, byte } of changes)
          if (byte % 2 === 0) bytes.copy(bytes, to, from, from + size);
          else bytes.fill(byte, to, Math.min(bytes.length, to + (size % 9)));
        await writeFile(path, repairChecksum(bytes.subarray(0, bytes.length - Math.max(0, cut - 20))));
        const found = await readEif(path).catch((error: unknown) => error);
        if (found instanceof KitError) expect(found.code).toMatch(/^E_EIF_/);
        else expect(found).toHaveProperty("pcrs.PCR0");
      }),
      { numRuns: 400 },
    );
  });
});
