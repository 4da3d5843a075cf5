import { execFile } from "node:child_process";
import { appendFile, mkdir, open, symlink, truncate, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { PassThrough, Writable } from "node:stream";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";

import { DEFAULT_ARCHIVE_LIMITS } from "../../archive/archive-limits.ts";
import { packArchive } from "../../archive/pack-archive.ts";
import { decodeTarHeader } from "../../wire/tar/tar-header.ts";
import { readTar } from "../../wire/tar/tar-reader.ts";
import { isRoot, openArchiveBed, packToBytes, refusalOf } from "./archive-bed.ts";

const run = promisify(execFile);
const GIB = 1024 ** 3;

async function namesOf(archive: Buffer): Promise<string[]> {
  const names: string[] = [];
  const refuse = (why: string): Error => new Error(why);
  for await (const member of readTar(chunks(archive), { refuse, isWhole: true }))
    names.push(member.linkName === "" ? member.name : `${member.name} -> ${member.linkName}`);
  return names;
}

async function* chunks(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Keeps nothing but the first bytes and the count. */
class Counter extends Writable {
  count = 0;
  head = Buffer.alloc(0);

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    if (this.count === 0) this.head = Buffer.from(chunk.subarray(0, 4096));
    this.count += chunk.length;
    done();
  }
}

describe("what is packed", () => {
  test("a directory before what is in it, names in the order of their bytes", async () => {
    await using bed = await openArchiveBed();
    for (const name of ["b", "a/z", "a-", "ü", "B"]) await mkdir(bed.path("d", name), { recursive: true });
    expect(await namesOf(await packToBytes(bed.path("d")))).toEqual(
      ["d", "d/B", "d/a", "d/a/z", "d/a-", "d/b", "d/ü"].map((name) => `${name}/`),
    );
  });

  test.each([
    ["d", ["d/", "d/f"]],
    ["d/", ["d/", "d/f"]],
    ["d//.//", ["d/", "d/f"]],
    ["d/../d/.", ["d/", "d/f"]],
    ["d/f/../../d/f", undefined],
    ["l", ["l -> d"]],
    ["l/", ["l/", "l/f"]],
    ["l/.", ["l/", "l/f"]],
    ["l/f", ["f"]],
    ["e/..", ["top/", "top/d/", "top/d/f", "top/e/", "top/l -> d"]],
    ["d/f/", undefined],
    ["no", undefined],
    ["", undefined],
  ])("%j: the last name, a link followed only where a directory is asked for", async (path, names) => {
    await using bed = await openArchiveBed();
    await mkdir(bed.path("top/d"), { recursive: true });
    await mkdir(bed.path("top/e"));
    await writeFile(bed.path("top/d/f"), "");
    await symlink("d", bed.path("top/l"));
    const place = path === "" ? "" : `${bed.path("top")}/${path}`;
    if (names !== undefined) expect(await namesOf(await packToBytes(place))).toEqual(names);
    else expect((await refusalOf(packToBytes(place))).code).toBe("E_ARCHIVE_NOT_FOUND");
  });

  test("a file of 9 GiB has its size in the header and passes without being held", async () => {
    // The holes of a file cost no memory on a tmpfs, and twenty seconds elsewhere.
    await using bed = await openArchiveBed(existsSync("/dev/shm") ? "/dev/shm" : undefined);
    await writeFile(bed.path("large"), "");
    await truncate(bed.path("large"), 9 * GIB);
    const output = new Counter();
    const { signal } = new AbortController();
    const before = process.memoryUsage().rss;
    let highest = 0;
    const onProgress = (): void => {
      highest = Math.max(highest, process.memoryUsage.rss());
    };
    const summary = await packArchive(bed.path("large"), { output, signal, onProgress });
    expect(summary).toEqual({ entries: 1, bytes: 9 * GIB });
    expect(output.count).toBe(9 * GIB + output.head.indexOf("ustar", 1024) - 257 + 512 + 1024);
    expect(output.head.toString("latin1", 512, 1024)).toContain(`size=${9 * GIB}\n`);
    const refuse = (why: string): Error => new Error(why);
    expect(decodeTarHeader(output.head.subarray(1024, 1536), refuse)?.size).toBe(9 * GIB);
    // Other tests of this process hold whole images meanwhile; nine gigabytes would not hide among them.
    expect(highest - before).toBeLessThan(2 * GIB);
  }, 60_000);
});

describe("what is not packed is refused with its name", () => {
  test("a named pipe", async () => {
    await using bed = await openArchiveBed();
    await mkdir(bed.path("d"));
    await run("mkfifo", [bed.path("d/pipe")]);
    const refused = await refusalOf(packToBytes(bed.path("d")));
    expect([refused.code, refused.message]).toEqual([
      "E_ARCHIVE_ENTRY",
      '"d/pipe": a named pipe is not copied',
    ]);
  });

  test("a socket", async () => {
    await using bed = await openArchiveBed();
    const server = createServer().listen(bed.path("socket"));
    await once(server, "listening");
    const refused = await refusalOf(packToBytes(bed.path("socket")));
    expect([refused.code, refused.message]).toEqual(["E_ARCHIVE_ENTRY", '"socket": a socket is not copied']);
    server.close();
  });

  test("a device", async () => {
    expect((await refusalOf(packToBytes("/dev/null"))).message).toBe('"null": a device is not copied');
  });

  test("a name and a link that are not UTF-8", async () => {
    await using bed = await openArchiveBed();
    await mkdir(bed.path("d"));
    const name = Buffer.concat([Buffer.from(bed.path("d/")), Buffer.from([0x66, 0xff])]);
    await writeFile(name, "");
    const refused = await refusalOf(packToBytes(bed.path("d")));
    expect([refused.code, refused.message]).toEqual(["E_ARCHIVE_ENTRY", '"d/f\u00ff" is not UTF-8']);
    await symlink(Buffer.from([0xff]), bed.path("l"));
    expect((await refusalOf(packToBytes(bed.path("l")))).code).toBe("E_ARCHIVE_ENTRY");
  });

  test("the root directory, which has no name", async () => {
    expect((await refusalOf(packToBytes("/"))).code).toBe("E_ARCHIVE_ENTRY");
    expect((await refusalOf(packToBytes("/."))).code).toBe("E_ARCHIVE_ENTRY");
  });

  test.skipIf(isRoot)("a file that may not be read (root may)", async () => {
    await using bed = await openArchiveBed();
    await writeFile(bed.path("f"), "", { mode: 0 });
    expect((await refusalOf(packToBytes(bed.path("f")))).code).toBe("E_ARCHIVE_ACCESS");
  });

  test("more files, bytes or directories than the limits", async () => {
    await using bed = await openArchiveBed();
    await mkdir(bed.path("d/e/f"), { recursive: true });
    await writeFile(bed.path("d/g"), "12345");
    for (const limit of [{ maxEntries: 3 }, { maxTotalBytes: 4 }, { maxDepth: 2 }, { maxPathBytes: 4 }]) {
      const refused = await refusalOf(packToBytes(bed.path("d"), { ...DEFAULT_ARCHIVE_LIMITS, ...limit }));
      expect(refused.code).toBe("E_ARCHIVE_LIMIT");
    }
  });

  test("a file of /proc, which says that it has no bytes", async () => {
    const refused = await refusalOf(packToBytes("/proc/self/status"));
    expect(refused.code).toBe("E_ARCHIVE_CHANGED");
  });
});

describe("a file that changes while it is read ends the archive", () => {
  /** Packs a file of 4 MiB through a stream that stops until `change` is over. */
  async function packWhile(path: string, change: () => Promise<void>): Promise<void> {
    await writeFile(path, Buffer.alloc(4 * 1024 ** 2, 1));
    let isFirst = true;
    const finish = async (done: () => void): Promise<void> => {
      await change();
      done();
    };
    const output = new Writable({
      write: (_chunk, _encoding, done) => {
        if (!isFirst) return done();
        isFirst = false;
        void finish(done);
      },
    });
    await packArchive(path, { output, signal: new AbortController().signal });
  }

  test.each([
    ["shrinks", (path: string) => truncate(path, 100)],
    ["grows", (path: string) => appendFile(path, "more")],
    [
      "is written to in its place",
      async (path: string) => {
        await using file = await open(path, "r+");
        await file.write("other", 0);
      },
    ],
  ])("one that %s", async (_title, change) => {
    await using bed = await openArchiveBed();
    const path = bed.path("f");
    expect((await refusalOf(packWhile(path, () => change(path)))).code).toBe("E_ARCHIVE_CHANGED");
  });
});

describe("the stream that an archive goes into", () => {
  test("is not read ahead of: a reader that stops stops the packing", async () => {
    await using bed = await openArchiveBed();
    await writeFile(bed.path("f"), Buffer.alloc(8 * 1024 ** 2));
    const stop = new AbortController();
    let bytes = 0;
    const output = new PassThrough();
    const full = Promise.withResolvers<void>();
    const onProgress = (soFar: { readonly bytes: number }): void => {
      bytes = soFar.bytes;
      if (bytes >= 1024 ** 2 - 4096) full.resolve();
    };
    const work = packArchive(bed.path("f"), { output, signal: stop.signal, onProgress });
    await full.promise;
    stop.abort();
    await expect(work).rejects.toThrow("aborted");
    expect(bytes).toBeLessThan(3 * 1024 ** 2);
    expect(output.listenerCount("error")).toBe(0);
  });

  test("may fail or be closed: the packing says so", async () => {
    await using bed = await openArchiveBed();
    await writeFile(bed.path("f"), Buffer.alloc(8 * 1024 ** 2));
    const { signal } = new AbortController();
    const failing = new Writable({ write: (_chunk, _encoding, done) => done(new Error("no more")) });
    failing.on("error", () => undefined);
    const refused = await refusalOf(packArchive(bed.path("f"), { output: failing, signal }));
    expect([refused.code, String(refused.cause)]).toEqual(["E_ARCHIVE_STREAM", "Error: no more"]);
    const closing = new Writable({ write: () => void closing.destroy() });
    expect((await refusalOf(packArchive(bed.path("f"), { output: closing, signal }))).code).toBe(
      "E_ARCHIVE_STREAM",
    );
    expect((await refusalOf(packArchive(bed.path("f"), { output: closing, signal }))).code).toBe(
      "E_ARCHIVE_STREAM",
    );
  });
});
