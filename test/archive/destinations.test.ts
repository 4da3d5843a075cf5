import { chmod, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from "node:fs/promises";
import { PassThrough, Readable } from "node:stream";
import { describe, expect, test } from "vitest";

import { unpackArchive } from "../../archive/unpack-archive.ts";
import { rawTar } from "../rbuilds/rootfs-testbed.ts";
import {
  type ArchiveBed,
  isRoot,
  openArchiveBed,
  packToBytes,
  refusalOf,
  unpackBytes,
} from "./archive-bed.ts";

const FILE = rawTar([{ name: "f", content: "new" }]);
const LINK = rawTar([{ name: "l", type: "2", link: "nowhere" }]);
const DIRECTORY = rawTar([
  { name: "d/", type: "5", mode: 0o755 },
  { name: "d/f", content: "new" },
]);

async function fill(bed: ArchiveBed): Promise<void> {
  await mkdir(bed.path("there/d"), { recursive: true });
  await writeFile(bed.path("there/d/old"), "old");
  await writeFile(bed.path("file"), "old");
  await symlink("there", bed.path("way"));
  await symlink("nowhere", bed.path("dangling"));
}

describe("the top entry goes where cp -r would put it", () => {
  test.each([
    ["a file into a directory", FILE, "there", "there/f"],
    ["a file into a directory with a slash", FILE, "there/", "there/f"],
    ["a file into a directory with a full stop", FILE, "there/.", "there/f"],
    ["a file into a directory through a link", FILE, "way", "there/f"],
    ["a file under a new name", FILE, "there/g", "there/g"],
    ["a file under a new name, through a link on the way", FILE, "way/g", "there/g"],
    ["a file over a file", FILE, "file", "file"],
    ["a file over a link to nothing", FILE, "dangling", "dangling"],
  ])("%s", async (_title, archive, destination, place) => {
    await using bed = await openArchiveBed();
    await fill(bed);
    await unpackBytes(archive, `${bed.directory}/${destination}`);
    expect(await readFile(bed.path(place), "utf8")).toBe("new");
    expect(await readFile(bed.path("there/d/old"), "utf8")).toBe("old");
    const inUse = [...(await readdir(bed.directory)), ...(await readdir(bed.path("there")))];
    expect(inUse.filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test("a directory under a new name, and into one that exists", async () => {
    await using bed = await openArchiveBed();
    await fill(bed);
    await unpackBytes(DIRECTORY, bed.path("there/new"));
    expect(await readFile(bed.path("there/new/f"), "utf8")).toBe("new");
    await unpackBytes(DIRECTORY, bed.path("there/new"));
    expect((await readdir(bed.path("there/new"))).sort()).toEqual(["d", "f"]);
  });

  test("a directory joins one of its name, which keeps its mode and its files", async () => {
    await using bed = await openArchiveBed();
    await fill(bed);
    await chmod(bed.path("there/d"), 0o700);
    await unpackBytes(DIRECTORY, bed.path("there"));
    expect((await readdir(bed.path("there/d"))).sort()).toEqual(["f", "old"]);
    expect((await stat(bed.path("there/d"))).mode & 0o777).toBe(0o700);
  });

  test("a link arrives as a link", async () => {
    await using bed = await openArchiveBed();
    await fill(bed);
    await unpackBytes(LINK, bed.path("there"));
    expect(await readlink(bed.path("there/l"))).toBe("nowhere");
  });
});

describe("a copy is refused, and nothing changes, for", () => {
  test.each([
    ["a directory that is not there", FILE, "no/f"],
    ["a new name with a slash", FILE, "there/g/"],
    ["a file on the way", FILE, "file/f"],
    ["a file with a slash", FILE, "file/"],
    ["a directory over a file", DIRECTORY, "file"],
    ["a file over a directory", rawTar([{ name: "d", content: "x" }]), "there"],
    ["a link over a directory", rawTar([{ name: "d", type: "2", link: "x" }]), "there"],
    ["a directory over a link", DIRECTORY, "dangling"],
    ["no path at all", FILE, "\0"],
  ])("%s", async (_title, archive, destination) => {
    await using bed = await openArchiveBed();
    await fill(bed);
    const refused = await refusalOf(unpackBytes(archive, `${bed.directory}/${destination}`));
    expect(refused.code).toBe("E_ARCHIVE_DESTINATION");
    expect((await readdir(bed.directory)).sort()).toEqual(["dangling", "file", "there", "way"]);
    expect(await readdir(bed.path("there"))).toEqual(["d"]);
    expect(await readdir(bed.path("there/d"))).toEqual(["old"]);
  });

  test("a directory below over a file that is there", async () => {
    await using bed = await openArchiveBed();
    await fill(bed);
    const archive = rawTar([
      { name: "d/", type: "5" },
      { name: "d/old/", type: "5" },
    ]);
    expect((await refusalOf(unpackBytes(archive, bed.path("there")))).code).toBe("E_ARCHIVE_DESTINATION");
    expect(await readFile(bed.path("there/d/old"), "utf8")).toBe("old");
  });

  test.skipIf(isRoot)("a directory that may not be written to (root may)", async () => {
    await using bed = await openArchiveBed();
    await fill(bed);
    await chmod(bed.path("there"), 0o555);
    expect((await refusalOf(unpackBytes(FILE, bed.path("there")))).code).toBe("E_ARCHIVE_ACCESS");
  });

  test.skipIf(!isRoot)("a read-only file system (needs root to have one)", async () => {
    const refused = await refusalOf(unpackBytes(FILE, "/proc/self"));
    expect(["E_ARCHIVE_ACCESS", "E_ARCHIVE_DESTINATION"]).toContain(refused.code);
  });
});

describe("a copy that ends early", () => {
  /** Sends the first bytes, waits until they have arrived on disk, and interrupts. */
  async function interrupted(archive: Buffer, length: number, destination: string) {
    const stop = new AbortController();
    const input = new PassThrough();
    const arrived = Promise.withResolvers<void>();
    const onProgress = (): void => arrived.resolve();
    const policy = { owners: "caller", specialModes: "drop" } as const;
    const work = unpackArchive(destination, { input, signal: stop.signal, onProgress, ...policy });
    input.write(archive.subarray(0, length));
    await arrived.promise;
    stop.abort();
    await expect(work).rejects.toThrow("aborted");
    input.destroy();
  }

  test("leaves nothing of a new directory", async () => {
    await using bed = await openArchiveBed();
    await mkdir(bed.path("from/ro"), { recursive: true });
    await writeFile(bed.path("from/ro/f"), "f");
    await writeFile(bed.path("from/z"), "z".repeat(100_000));
    await chmod(bed.path("from/ro"), 0o555);
    const archive = await packToBytes(bed.path("from"));
    await mkdir(bed.path("to"));
    await interrupted(archive, archive.length - 50_000, bed.path("to"));
    expect(await readdir(bed.path("to"))).toEqual([]);
  });

  test("leaves the old file under its name", async () => {
    await using bed = await openArchiveBed();
    await fill(bed);
    const archive = rawTar([{ name: "f", content: "new".repeat(1000) }]);
    await interrupted(archive, 1024, bed.path("file"));
    expect(await readFile(bed.path("file"), "utf8")).toBe("old");
    expect((await readdir(bed.directory)).sort()).toEqual(["dangling", "file", "there", "way"]);
  });

  test("leaves an existing directory with whole files only", async () => {
    await using bed = await openArchiveBed();
    await fill(bed);
    const members = [
      { name: "d/", type: "5" },
      { name: "d/a", content: "whole" },
      { name: "d/sub/", type: "5" },
      { name: "d/sub/b", content: "b".repeat(5000) },
    ];
    const archive = rawTar(members);
    await refusalOf(unpackBytes(archive.subarray(0, 4096), bed.path("there")));
    expect((await readdir(bed.path("there/d"))).sort()).toEqual(["a", "old"]);
    expect(await readFile(bed.path("there/d/a"), "utf8")).toBe("whole");
  });

  test("says so when the sending side fails", async () => {
    await using bed = await openArchiveBed();
    const { signal } = new AbortController();
    const policy = { owners: "caller", specialModes: "drop", signal } as const;
    const broken = new PassThrough();
    const work = unpackArchive(bed.path("f"), { input: broken, ...policy });
    broken.write(FILE.subarray(0, 514));
    broken.destroy(new Error("reset by peer"));
    const refused = await refusalOf(work);
    expect([refused.code, String(refused.cause)]).toEqual(["E_ARCHIVE_STREAM", "Error: reset by peer"]);
    const again = await refusalOf(unpackArchive(bed.path("f"), { input: broken, ...policy }));
    expect(again.code).toBe("E_ARCHIVE_STREAM");
    expect(await readdir(bed.directory)).toEqual([]);
  });

  test("does not begin when it was cancelled before", async () => {
    await using bed = await openArchiveBed();
    const options = { input: Readable.from([FILE]), signal: AbortSignal.abort() };
    const policy = { owners: "caller", specialModes: "drop" } as const;
    await expect(unpackArchive(bed.path("f"), { ...options, ...policy })).rejects.toThrow("aborted");
    expect(await readdir(bed.directory)).toEqual([]);
  });
});
