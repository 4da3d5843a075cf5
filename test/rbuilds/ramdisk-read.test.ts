import { execFile } from "node:child_process";
import { open, readdir, readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { constants, deflateRawSync, gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { readRamdisk } from "../../rbuilds/ramdisk/read-ramdisk.ts";
import { hasProgram, newcOf, openRamdiskTestbed, type RamdiskTestbed, sha256 } from "./ramdisk-testbed.ts";
import { codeOf } from "./rootfs-testbed.ts";

const run = promisify(execFile);
const hasZstd = await hasProgram("zstd");
const hasGzip = await hasProgram("gzip");
const hasCpio = await hasProgram("cpio");

let bed: RamdiskTestbed;
beforeAll(async () => {
  bed = await openRamdiskTestbed();
});
afterAll(() => bed[Symbol.asyncDispose]());

const A = newcOf({ name: "a", body: "content of a" });
const B = newcOf({ name: "b" }, { name: "c", type: "directory", mode: 0o755 });
const zstd = (bytes: Uint8Array, params: Record<number, number> = {}): Buffer =>
  zstdCompressSync(bytes, { params });
const zeros = (count: number): Buffer => Buffer.alloc(count);
const pathsOf = async (bytes: Uint8Array): Promise<string[]> =>
  (await bed.read(bytes)).map(({ path }) => path);
const refusalOf = async (bytes: Uint8Array): Promise<string> => await codeOf(bed.read(bytes));

async function errorOf(bytes: Uint8Array): Promise<KitError> {
  try {
    await bed.read(bytes);
  } catch (error) {
    if (error instanceof KitError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

/** One byte changed, counted from the end. */
function withByte(bytes: Uint8Array, index: number): Buffer {
  return Buffer.from(bytes.with(index, (bytes.at(index) ?? 0) ^ 1));
}

/** gzip with the flags and fields given, as no library writes it. */
function gzipWith(flags: number, extra: Uint8Array, content: Uint8Array): Buffer {
  const header = Buffer.from([0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3]);
  return Buffer.concat([header, extra, deflateRawSync(content), gzipSync(content).subarray(-8)]);
}

describe("reading ramdisks", () => {
  test.each<[string, Buffer, string[]]>([
    ["nothing", zeros(0), []],
    ["zeros alone", zeros(4097), []],
    ["a plain archive", A, ["a"]],
    ["two plain archives", Buffer.concat([A, B]), ["a", "b", "c"]],
    [
      "plain archives with zeros between and behind",
      Buffer.concat([zeros(8), A, zeros(512), B, zeros(1)]),
      ["a", "b", "c"],
    ],
    ["a zstd frame", zstd(A), ["a"]],
    ["zstd frames one after another", Buffer.concat([zstd(A), zstd(B), zstd(A)]), ["a", "b", "c", "a"]],
    ["gzip members one after another", Buffer.concat([gzipSync(A), gzipSync(B)]), ["a", "b", "c"]],
    [
      "all forms with zeros of any number between",
      Buffer.concat([gzipSync(A), zeros(3), zstd(B), zeros(1), gzipSync(B), zstd(A)]),
      ["a", "b", "c", "b", "c", "a"],
    ],
    [
      "a plain archive before compressed ones, as with microcode",
      Buffer.concat([A, zeros(300), zstd(B)]),
      ["a", "b", "c"],
    ],
    ["two archives in one frame", zstd(Buffer.concat([A, zeros(512), B, zeros(7)])), ["a", "b", "c"]],
    ["two archives in one member", gzipSync(Buffer.concat([A, B])), ["a", "b", "c"]],
    ["a frame with a checksum", zstd(A, { [constants.ZSTD_c_checksumFlag]: 1 }), ["a"]],
    ["a frame without a content size", zstd(A, { [constants.ZSTD_c_contentSizeFlag]: 0 }), ["a"]],
    ["a member with the name of its file", gzipWith(8, Buffer.from("initrd\0"), A), ["a"]],
  ])("takes %s", async (_title, bytes, paths) => {
    expect(await pathsOf(bytes)).toEqual(paths);
  });

  test("takes an archive larger than what is read or decompressed at a time, in every form", async () => {
    const body = Buffer.alloc(3_000_001, "0123456789abcdef\n");
    const archive = newcOf({ name: "large", body }, { name: "small", body: "x" });
    const head = zstd(B);
    const start = Buffer.concat([head, zeros(-head.length & 3)]);
    for (const bytes of [archive, zstd(archive), gzipSync(archive), gzipSync(archive, { level: 0 })]) {
      const entries = await bed.read(Buffer.concat([start, bytes, zeros(-bytes.length & 3), A]));
      expect(entries.find(({ path }) => path === "large")).toMatchObject({
        sizeBytes: body.length,
        sha256: sha256(body),
      });
      expect(entries.at(-1)?.path).toBe("a");
    }
  });

  test("says of every entry what its header says, and in which archive it is", async () => {
    const archive = newcOf({ name: "z", body: "12", inode: 9, nlink: 2, uid: 7, mode: 0o4755 });
    const [first, last] = await bed.read(Buffer.concat([A, zeros(4), zstd(archive)]));
    expect(first).toMatchObject({ archive: 0 });
    expect(last).toEqual({
      path: "z",
      pathBytes: Buffer.from("z"),
      type: "file",
      mode: 0o4755,
      uid: 7,
      gid: 0,
      nlink: 2,
      inode: 9,
      devMajor: 0,
      devMinor: 0,
      archive: 1,
      mtime: 0,
      sizeBytes: 2,
      rdevMajor: 0,
      rdevMinor: 0,
      sha256: sha256(Buffer.from("12")),
      linkTarget: undefined,
    });
  });

  test("names and targets that are no text can be shown and told apart", async () => {
    const archive = newcOf(
      { name: "a\nb" },
      { name: "a\\x0ab" },
      { name: "link", type: "symlink", body: Uint8Array.of(0x41, 0xff) },
    );
    const entries = await bed.read(archive);
    expect(entries.map(({ path }) => path)).toEqual(["a\\x0ab", "a\\\\x0ab", "link"]);
    expect(entries.map(({ pathBytes }) => pathBytes.toString())).toEqual(["a\nb", "a\\x0ab", "link"]);
    expect(entries[2]?.linkTarget).toBe("A\\xff");
  });

  test.each<[string, Uint8Array, number]>([
    ["something else", Buffer.from("#!/bin/sh"), 0],
    ["something else behind an archive", Buffer.concat([A, Buffer.from("x")]), A.length],
    ["a plain archive that does not begin at a multiple of 4", Buffer.concat([zeros(2), A]), 2],
    ["xz, which the reader has no use for", Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]), 0],
    ["a skippable frame, which Linux does not know", Buffer.from("502a4d1804000000", "hex"), 0],
    ["a frame that is cut off in its magic", zstd(A).subarray(0, 3), 0],
    ["a member that is cut off in its head", gzipSync(A).subarray(0, 9), 0],
  ])("refuses %s, with its place", async (_title, bytes, offset) => {
    expect(await errorOf(bytes)).toMatchObject({ code: "E_RAMDISK_INVALID", details: { offset } });
  });

  test.each<[string, Uint8Array]>([
    ["an archive without a trailer", A.subarray(0, -124)],
    ["a frame with nothing in it", zstd(zeros(0))],
    ["a frame of zeros", zstd(zeros(512))],
    ["a frame that begins with zeros", zstd(Buffer.concat([zeros(4), A]))],
    ["a frame with something behind its archive", zstd(Buffer.concat([A, Buffer.from("junk")]))],
    ["a second archive in a frame that is not at a multiple of 4", zstd(Buffer.concat([A, zeros(2), B]))],
    ["a frame of a frame", zstd(zstd(A))],
    [
      "a frame whose window Linux would not hold",
      zstd(Buffer.alloc(400_000), {
        [constants.ZSTD_c_windowLog]: 28,
        [constants.ZSTD_c_contentSizeFlag]: 0,
      }),
    ],
    ["a frame with a dictionary", Buffer.from("28b52ffd210501", "hex")],
    ["a frame with a reserved block", Buffer.from("28b52ffd0058070000", "hex")],
    ["a member of another method", Buffer.from(gzipSync(A)).fill(7, 2, 3)],
    ["a member with extra fields, which Linux does not pass over", gzipWith(4, Buffer.from([2, 0, 1, 1]), A)],
    ["a member with a wrong checksum", withByte(gzipSync(A), -8)],
    ["a member with a wrong size", withByte(gzipSync(A), -4)],
    ["a member whose name does not end", gzipWith(8, Buffer.alloc(5000, "x"), A)],
    ["a file larger than its range", Buffer.from(newcOf({ name: "a", body: "x" })).fill("f", 54, 62)],
  ])("refuses %s", async (_title, bytes) => {
    expect(await refusalOf(bytes)).toBe("E_RAMDISK_INVALID");
  });

  test("one bit flipped in a frame with a checksum is refused wherever it is, or changes nothing", async () => {
    const good = zstd(newcOf({ name: "a", body: Buffer.alloc(50, "abc") }), {
      [constants.ZSTD_c_checksumFlag]: 1,
    });
    const expected = await bed.read(good);
    for (let bit = 0; bit < good.length * 8; bit += 1) {
      const index = bit >> 3;
      const bytes = Uint8Array.from(good).with(index, (good[index] ?? 0) ^ (1 << (bit & 7)));
      const found = await bed.read(bytes).catch((error: unknown) => error);
      if (found instanceof KitError) expect(found.code).toBe("E_RAMDISK_INVALID");
      else expect(found).toEqual(expected);
    }
  });

  test("cut off anywhere, in every form, it is refused", async () => {
    const archive = newcOf({ name: "d", type: "directory" }, { name: "d/f", body: "hello" });
    for (const whole of [archive, zstd(archive), gzipSync(archive)]) {
      for (let length = 1; length < whole.length; length += 1)
        expect(await refusalOf(whole.subarray(0, length)), `${length} of ${whole.length}`).toBe(
          "E_RAMDISK_INVALID",
        );
    }
  });

  test("any bytes, and any change of good ones, give entries or one refusal", async () => {
    const good = Buffer.concat([
      zstd(A),
      gzipSync(B),
      zeros(-(zstd(A).length + gzipSync(B).length) & 3),
      A,
      zeros(5),
    ]);
    const changed = fc
      .array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 })
      .map((changes) =>
        changes.reduce((bytes, [index, value]) => bytes.with(index, value), Uint8Array.from(good)),
      );
    const magic = fc
      .constantFrom("28b52ffd", "1f8b0800", "303730373031", "")
      .map((hex) => Buffer.from(hex, "hex"));
    const random = fc.tuple(magic, fc.uint8Array({ maxLength: 300 })).map((parts) => Buffer.concat(parts));
    await fc.assert(
      fc.asyncProperty(fc.oneof(random, changed), async (bytes) => {
        expect(["accepted", "E_RAMDISK_INVALID", "E_RAMDISK_LIMIT"]).toContain(await refusalOf(bytes));
      }),
      { numRuns: 500 },
    );
  });

  test("a range beyond the end of its file is refused", async () => {
    const path = await bed.write(A);
    const read = async (offset: number, sizeBytes: number): Promise<string> =>
      await codeOf(Array.fromAsync(readRamdisk(path, { offset, sizeBytes })));
    expect(await read(0, A.length + 1)).toBe("E_RAMDISK_INVALID");
    expect(await read(A.length + 100, 4)).toBe("E_RAMDISK_INVALID");
    expect(await read(0, A.length)).toBe("accepted");
  });

  test("the file is closed when reading stops early or is cancelled", async () => {
    const descriptors = async (): Promise<number> => (await readdir("/proc/self/fd")).length;
    const archive = newcOf(
      ...Array.from({ length: 2000 }, (_, index) => ({ name: `f${index}`, body: "x".repeat(500) })),
    );
    const paths = [
      await bed.write(archive),
      await bed.write(zstd(archive)),
      await bed.write(gzipSync(archive)),
    ];
    const sizes = [archive.length, zstd(archive).length, gzipSync(archive).length];
    // Other files of the test run open and close files meanwhile, so many are read, and few may be open more.
    const before = await descriptors();
    for (let round = 0; round < 60; round += 1) {
      const abort = new AbortController();
      const options = { offset: 0, sizeBytes: sizes[round % 3] ?? 0, signal: abort.signal };
      for await (const entry of readRamdisk(paths[round % 3] ?? "", options)) if (entry.inode === 3) break;
      const reading = (async () => {
        for await (const entry of readRamdisk(paths[round % 3] ?? "", options))
          if (entry.inode === 3) abort.abort();
      })();
      await expect(reading).rejects.toThrow(/abort/i);
    }
    expect((await descriptors()) - before).toBeLessThan(30);
  });
});

describe("limits", () => {
  test("entries, archives and bytes are counted over the whole ramdisk", async () => {
    const bytes = Buffer.concat([A, zstd(B), gzipSync(A)]);
    const unpackedBytes = 2 * A.length + B.length;
    const read = async (limits: object): Promise<string> => await codeOf(bed.read(bytes, limits));
    expect(await read({ maxEntries: 4, maxArchives: 3, maxUnpackedBytes: unpackedBytes })).toBe("accepted");
    expect(await read({ maxEntries: 3 })).toBe("E_RAMDISK_LIMIT");
    expect(await read({ maxArchives: 2 })).toBe("E_RAMDISK_LIMIT");
    expect(await read({ maxUnpackedBytes: unpackedBytes - 1 })).toBe("E_RAMDISK_LIMIT");
  });

  test("a small frame that unpacks to very much is stopped at the limit", async () => {
    const bomb = zstd(newcOf({ name: "zeros", body: Buffer.alloc(64 * 1024 * 1024) }));
    expect(bomb.length).toBeLessThan(20_000);
    expect(await codeOf(bed.read(bomb, { maxUnpackedBytes: 1024 * 1024 }))).toBe("E_RAMDISK_LIMIT");
    expect(await codeOf(bed.read(gzipSync(Buffer.alloc(64 * 1024 * 1024)), {}))).toBe("E_RAMDISK_INVALID");
  });

  test("a file that says it has 4 GiB takes no memory for it", async () => {
    const lying = Buffer.from(newcOf({ name: "a", body: "x" })).fill("f", 54, 62);
    const path = bed.path("sparse");
    await using file = await open(path, "w");
    await file.write(lying);
    await file.truncate(8 * 1024 * 1024);
    const before = process.memoryUsage().arrayBuffers;
    expect(await codeOf(Array.fromAsync(readRamdisk(path, { offset: 0, sizeBytes: 8 * 1024 * 1024 })))).toBe(
      "E_RAMDISK_INVALID",
    );
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(128 * 1024 * 1024);
  });
});

describe("other programs' ramdisks", () => {
  test.skipIf(!hasZstd || !hasGzip)(
    "what zstd and gzip compress is taken [needs zstd and gzip]",
    async () => {
      const plain = await bed.write(A);
      const at = async (program: string, ...options: string[]): Promise<Buffer> => {
        const { stdout } = await run(program, [...options, "-c", plain], { encoding: "buffer" });
        return stdout;
      };
      const bytes = Buffer.concat([
        await at("zstd", "-19"),
        await at("gzip", "-9"),
        await at("gzip", "-n"),
        await at("zstd", "-1", "--no-check"),
        await at("zstd", "--ultra", "-22", "--long=27"),
      ]);
      expect(await pathsOf(bytes)).toEqual(["a", "a", "a", "a", "a"]);
    },
  );

  test.skipIf(!hasCpio)("what GNU cpio archives is taken, with hard links [needs cpio]", async () => {
    const root = bed.path("tree");
    await run("/bin/sh", [
      "-c",
      'mkdir -p "$1/d" && cd "$1" && echo hello > d/f && ln d/f d/g && ln -s f d/l && : > d/e',
      "sh",
      root,
    ]);
    for (const form of ["newc", "crc"]) {
      const archive = `${root}.${form}`;
      await run("/bin/sh", [
        "-c",
        'cd "$1" && find . | LC_ALL=C sort | cpio -o --quiet -H "$2" > "$3"',
        "sh",
        root,
        form,
        archive,
      ]);
      const entries = await bed.read(await readFile(archive));
      expect(entries.map(({ path, type }) => `${path} ${type}`).toSorted()).toEqual([
        ". directory",
        "d directory",
        "d/e file",
        "d/f file",
        "d/g file",
        "d/l symlink",
      ]);
      const [f, g] = ["d/f", "d/g"].map((name) => entries.find(({ path }) => path === name));
      expect(f).toMatchObject({ nlink: 2, inode: g?.inode, sizeBytes: 0 });
      expect(g).toMatchObject({ nlink: 2, sha256: sha256(Buffer.from("hello\n")) });
    }
  });
});

test("a file that is not there is said to be so", async () => {
  const reading = Array.fromAsync(readRamdisk(bed.path("absent"), { offset: 0, sizeBytes: 1 }));
  await expect(reading).rejects.toMatchObject({ code: "ENOENT" });
});
