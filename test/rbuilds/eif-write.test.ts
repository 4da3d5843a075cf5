import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile, truncate } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { BLOCK_BYTES } from "../../rbuilds/eif/block-memory.ts";
import { readEif } from "../../rbuilds/eif/read-eif.ts";
import { writeEif } from "../../rbuilds/eif/write-eif.ts";
import type { PreparedFile } from "../../rbuilds/prepared-file.ts";
import { decodeEifMetadata } from "../../wire/eif/metadata.ts";
import { makeInput, readGolden } from "../independent-eif/golden-image.ts";
import { readIndependently } from "../independent-eif/image-reader.ts";
import { codeOf, COMMAND_LINE, type EifBed, HASHER, METADATA, openEifBed, sha256 } from "./eif-bed.ts";

const run = promisify(execFile);
const WRITER = join(import.meta.dirname, "..", "fixtures", "rbuilds", "eif-writer.ts");
const golden = await readGolden();

let bed: EifBed;
beforeAll(async () => {
  bed = await openEifBed();
});
afterAll(() => bed[Symbol.asyncDispose]());

/** SHA-384 by the command of OpenSSL, of files one after another. */
async function digestByCommand(bytes: Uint8Array): Promise<Buffer> {
  const { stdout } = await run("openssl", ["dgst", "-sha384", "-r", await bed.bytes(bytes)]);
  return Buffer.from(stdout.slice(0, 96), "hex");
}

async function registerByCommand(...content: Uint8Array[]): Promise<string> {
  const digest = await digestByCommand(Buffer.concat(content));
  return (await digestByCommand(Buffer.concat([Buffer.alloc(48), digest]))).toString("hex");
}

/** What nobody takes for an image: hidden, and named for what it is. */
function isTemporary(name: string): boolean {
  return /^\.[0-9a-f]{16}\.eif\.tmp$/.test(name);
}

describe("an image that is written", () => {
  test.each(golden.images.filter(({ signature }) => signature === undefined))(
    "has the bytes that AWS's tool gives it: $name",
    async (image) => {
      const input = async (name: string): Promise<PreparedFile> => {
        const found = golden.inputs[name];
        if (found === undefined) throw new Error(`no input ${name}`);
        return await bed.prepare(makeInput(found));
      };
      const written = await bed.write("golden.eif", {
        architecture: image.flags === 1 ? "aarch64" : "x86_64",
        kernel: await input("kernel"),
        commandLine: image.commandLine,
        metadata: decodeEifMetadata(Buffer.from(golden.metadata[image.metadata] ?? "")),
        ramdisks: await Promise.all(image.ramdisks.map(async (name) => [await input(name)])),
      });
      expect(written).toMatchObject({ sha256: image.sha256, sizeBytes: image.sizeBytes });
      expect(written.pcrs).toEqual(image.pcrs);
      expect(sha256(await readFile(written.path))).toBe(image.sha256);
    },
  );

  test("has the registers that OpenSSL's command computes", async () => {
    const { pcrs } = await bed.write("registers.eif");
    const base = [Buffer.from("a kernel"), Buffer.from(COMMAND_LINE), Buffer.from("boot, first")];
    const application = Buffer.from("application, second");
    expect(pcrs).toEqual({
      PCR0: await registerByCommand(...base, application),
      PCR1: await registerByCommand(...base),
      PCR2: await registerByCommand(application),
    });
  });

  test("is read with what was written, and by a reader that shares no code", async () => {
    const sizes = fc.nat(3000);
    const anyRamdisks = fc.array(fc.array(sizes, { maxLength: 3 }), { maxLength: 5 });
    const anyLine = fc.string({ unit: "grapheme" }).filter((line) => !line.includes("\0"));
    await fc.assert(
      fc.asyncProperty(anyRamdisks, anyLine, async (ramdisks, commandLine) => {
        const prepare = async (size: number) => await bed.prepare(randomBytes(size));
        const written = await bed.write("round.eif", {
          commandLine,
          ramdisks: await Promise.all(ramdisks.map(async (parts) => await Promise.all(parts.map(prepare)))),
        });
        const { sha256: digest, sizeBytes, pcrs } = written;
        const description = await readEif(written.path);
        expect(description).toMatchObject({ version: 4, sha256: digest, sizeBytes, pcrs, commandLine });
        expect(description).toMatchObject({ metadata: METADATA, signature: null, warnings: [] });
        const other = await readIndependently(written.path);
        expect(other.pcrs).toEqual(pcrs);
        expect(other).toMatchObject({ crc32: description.crc32, commandLine });
      }),
      { numRuns: 15 },
    );
  });

  test("may have up to 29 ramdisks, each of several parts, some of them empty", async () => {
    const parts = await Promise.all(
      [0, 1, 700, 0, 33].map(async (size) => await bed.prepare(randomBytes(size))),
    );
    for (let count = 0; count <= 29; count++) {
      const ramdisks = Array.from({ length: count }, (_, index) =>
        parts.slice(0, index % (parts.length + 1)),
      );
      const written = await bed.write("counted.eif", { ramdisks });
      const bytes = await readFile(written.path);
      expect(written.sha256, `${count} ramdisks`).toBe(sha256(bytes));
      const sizes = ramdisks.map((each) => each.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
      const other = await readIndependently(written.path);
      expect(other.pcrs).toEqual(written.pcrs);
      expect(other.ramdisks.map(({ sizeBytes }) => sizeBytes)).toEqual(sizes);
      const description = await readEif(written.path);
      expect(description).toMatchObject({ pcrs: written.pcrs, crc32: other.crc32, warnings: [] });
      expect(description.sections.length).toBe(3 + count);
    }
  });

  test("is right where its parts end at, before and after the ends of blocks", async () => {
    const lengths = [
      BLOCK_BYTES - 548 - 12 - 12 - COMMAND_LINE.length,
      BLOCK_BYTES,
      1,
      4095,
      3 * BLOCK_BYTES - 1,
    ];
    for (const shift of [-1, 0, 1]) {
      const [kernel, ...rest] = await Promise.all(
        lengths.map(async (length) => await bed.prepare(randomBytes(length + shift))),
      );
      if (kernel === undefined) throw new Error("no kernel");
      const written = await bed.write("edges.eif", { kernel, ramdisks: [rest, [...rest, kernel], rest] });
      expect(written.sha256).toBe(sha256(await readFile(written.path)));
      expect((await readIndependently(written.path)).pcrs).toEqual(written.pcrs);
    }
  });

  test("is the same by the hashing thread in its bundled form", async () => {
    const request = await bed.request();
    const hasher = new URL("../../dist/eif-hasher.js", import.meta.url).pathname;
    const bundled = await writeEif(request, bed.path("bundled.eif"), { hasher });
    const { path: _, ...source } = await writeEif(request, bed.path("source.eif"), { hasher: HASHER });
    expect(bundled).toMatchObject(source);
  });

  test("tells its progress up to the last byte", async () => {
    const kernel = await bed.prepare(randomBytes(3 * BLOCK_BYTES));
    const seen: number[] = [];
    const { sizeBytes } = await writeEif(await bed.request({ kernel }), bed.path("progress.eif"), {
      hasher: HASHER,
      onProgress: (written, all) => seen.push(written / all),
    });
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.length).toBe(Math.ceil(sizeBytes / BLOCK_BYTES));
    expect(seen.at(-1)).toBe(1);
  });
});

describe("an image that cannot be written", () => {
  test("because a part has another size, content or kind than it had, leaves nothing", async () => {
    const folder = await bed.folder("changed");
    const part = await bed.prepare("some content");
    const directory = await bed.folder("not-a-file");
    const wrong: PreparedFile[] = [
      { ...part, sizeBytes: part.sizeBytes + 1 },
      { ...part, sizeBytes: part.sizeBytes - 1 },
      { ...part, sizeBytes: 0 },
      { ...part, crc32: part.crc32 ^ 1 },
      { ...part, path: bed.path("absent") },
      { ...part, path: directory },
      { ...part, path: "/dev/zero" },
    ];
    await run("mkfifo", [bed.path("pipe")]);
    wrong.push({ ...part, path: bed.path("pipe") });
    for (const each of wrong) {
      for (const changes of [
        { kernel: each },
        { ramdisks: [[part, each]] },
        { ramdisks: [[part], [each]] },
      ]) {
        const refusal = codeOf(bed.write("changed/a.eif", changes));
        expect(await refusal).toBe("E_EIF_SOURCE_CHANGED");
      }
    }
    expect(await bed.names("changed"), folder).toEqual([]);
  });

  test("because it was cancelled leaves nothing, whenever that happens", async () => {
    await bed.folder("cancelled");
    const big = await bed.prepare(randomBytes(8 * BLOCK_BYTES));
    const request = await bed.request({ ramdisks: [[big], [big, big]] });
    for (const after of [0, 1, 5, 14]) {
      const abort = new AbortController();
      let blocks = 0;
      if (after === 0) abort.abort();
      const writing = writeEif(request, bed.path("cancelled/a.eif"), {
        hasher: HASHER,
        signal: abort.signal,
        onProgress: () => {
          blocks += 1;
          if (blocks === after) abort.abort();
        },
      });
      expect(await codeOf(writing), `after ${after} blocks`).toBe("E_CANCELLED");
    }
    expect(await bed.names("cancelled")).toEqual([]);
  });

  test("because it was stopped says why, in the words of whoever stopped it", async () => {
    await bed.folder("stopped");
    const reasons: [reason: unknown, code: string][] = [
      [new KitError("E_LOCK_UNAVAILABLE", "a reason with a code"), "E_LOCK_UNAVAILABLE"],
      [new DOMException("too late", "TimeoutError"), "E_DEADLINE"],
      [undefined, "E_CANCELLED"],
    ];
    const kernel = await bed.prepare(randomBytes(3 * BLOCK_BYTES));
    for (const [reason, code] of reasons) {
      const abort = new AbortController();
      const writing = writeEif(await bed.request({ kernel }), bed.path("stopped/a.eif"), {
        hasher: HASHER,
        signal: abort.signal,
        onProgress: () => abort.abort(reason),
      });
      expect(await codeOf(writing)).toBe(code);
      if (reason instanceof KitError) await expect(writing).rejects.toBe(reason);
    }
    expect(await bed.names("stopped")).toEqual([]);
  });

  test("because its process was killed in the middle leaves nothing under its name, and the next one is whole", async () => {
    await bed.folder("killed");
    const kernel = await bed.bytes(randomBytes(8 * BLOCK_BYTES));
    const output = bed.path("killed/a.eif");
    const killHalfway = async (): Promise<void> => {
      const writer = spawn(process.execPath, [WRITER, kernel, output], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      try {
        const [said]: unknown[] = await once(writer.stdout, "data", { signal: AbortSignal.timeout(30_000) });
        expect(String(said)).toBe("half\n");
      } finally {
        writer.kill("SIGKILL");
        if (writer.exitCode === null && writer.signalCode === null) await once(writer, "exit");
      }
      expect(writer.signalCode).toBe("SIGKILL");
    };
    await killHalfway();
    expect((await bed.names("killed")).filter((name) => !isTemporary(name))).toEqual([]);
    const { sha256: digest } = await bed.write("killed/a.eif");
    await killHalfway();
    expect((await bed.names("killed")).filter((name) => !isTemporary(name))).toEqual(["a.eif"]);
    expect((await readEif(output)).sha256).toBe(digest);
    for (const name of (await bed.names("killed")).filter(isTemporary))
      expect(await codeOf(readEif(bed.path(`killed/${name}`))), name).toBe("E_EIF_INVALID");
  });

  test("leaves the image that had the name before", async () => {
    const { path } = await bed.write("kept.eif");
    const before = await readFile(path);
    const part = await bed.prepare("x");
    await truncate(part.path, 0);
    expect(await codeOf(bed.write("kept.eif", { kernel: part }))).toBe("E_EIF_SOURCE_CHANGED");
    expect(await readFile(path)).toEqual(before);
  });

  test("because of the place it should go to is told with that place", async () => {
    await bed.folder("taken/inside");
    expect(await codeOf(bed.write("taken"))).toBe("E_EIF_FILE");
    const file = await bed.bytes(Buffer.from("a file"));
    expect(await codeOf(writeEif(await bed.request(), `${file}/a.eif`, { hasher: HASHER }))).toBe(
      "E_EIF_FILE",
    );
    expect((await bed.names()).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test.skipIf(process.getuid?.() !== 0)(
    "because the disk is full is told as that, and leaves nothing",
    async () => {
      const small = await bed.folder("small-disk");
      await run("mount", ["-t", "tmpfs", "-o", "size=3m", "tmpfs", small]);
      try {
        const big = await bed.prepare(randomBytes(8 * BLOCK_BYTES));
        expect(await codeOf(bed.write("small-disk/a.eif", { kernel: big }))).toBe("E_DISK_FULL");
        expect(await bed.names("small-disk")).toEqual([]);
        const { path, sha256: digest } = await bed.write("small-disk/a.eif");
        expect(sha256(await readFile(path))).toBe(digest);
      } finally {
        await run("umount", [small]);
      }
    },
  );

  test("because its hashing thread is missing is an error, not a wait", async () => {
    const writing = writeEif(await bed.request(), bed.path("no-thread.eif"), {
      hasher: bed.path("absent.js"),
    });
    expect(await codeOf(writing)).toBe("E_INTERNAL");
  });

  test("because of its text or number of parts is refused", async () => {
    const part = await bed.prepare("x");
    const many = (count: number) => ({ ramdisks: Array.from({ length: count }, () => [part]) });
    expect(await codeOf(bed.write("a.eif", { commandLine: "a\0b" }))).toBe("E_EIF_COMMAND_LINE");
    expect(await codeOf(bed.write("a.eif", { commandLine: "\ud800" }))).toBe("E_EIF_COMMAND_LINE");
    expect(await codeOf(bed.write("a.eif", { commandLine: "x".repeat(70_000) }))).toBe("E_EIF_TOO_LARGE");
    expect(await codeOf(bed.write("a.eif", { metadata: { ...METADATA, imageName: "a\0" } }))).toBe(
      "E_EIF_METADATA",
    );
    expect(await codeOf(bed.write("a.eif", many(30)))).toBe("E_EIF_TOO_LARGE");
    expect(await codeOf(bed.write("a.eif", many(29)))).toBeUndefined();
  });
});

describe("two images written at once to one name", () => {
  test("leave one of the two, whole", async () => {
    await bed.folder("race");
    const parts = await Promise.all(
      [1, 2, 3, 4].map(async () => await bed.prepare(randomBytes(3 * BLOCK_BYTES))),
    );
    const written = await Promise.all(
      parts.map(async (part) => await bed.write("race/a.eif", { ramdisks: [[part]] })),
    );
    const { sha256: digest } = await readEif(bed.path("race/a.eif"));
    expect(written.map((each) => each.sha256)).toContain(digest);
    expect(await bed.names("race")).toEqual(["a.eif"]);
  });
});

describe("a file system that knows no writes past its cache", () => {
  test.skipIf(process.getuid?.() !== 0)("gets the same image", async () => {
    const folder = await bed.folder("ramfs");
    await run("mount", ["-t", "ramfs", "ramfs", folder]);
    try {
      const request = await bed.request({ kernel: await bed.prepare(randomBytes(3 * BLOCK_BYTES + 77)) });
      const { path: _, ...usual } = await writeEif(request, bed.path("usual.eif"), { hasher: HASHER });
      const { path, ...other } = await writeEif(request, bed.path("ramfs/a.eif"), { hasher: HASHER });
      expect(other).toEqual(usual);
      expect(sha256(await readFile(path))).toBe(usual.sha256);
    } finally {
      await run("umount", [folder]);
    }
  });
});
