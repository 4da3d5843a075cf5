import { describe, expect, test } from "vitest";

import {
  compareRamdisks,
  MAX_DIFFERENCES,
  type RamdiskComparison,
  type RamdiskDifference,
} from "../../rbuilds/ramdisk/compare-ramdisks.ts";
import type { RamdiskEntry } from "../../rbuilds/ramdisk/read-ramdisk.ts";
import { codeOf } from "./rootfs-testbed.ts";

function entry(path: string, more: Partial<RamdiskEntry> = {}): RamdiskEntry {
  return {
    path,
    pathBytes: Buffer.from(path),
    type: "file",
    mode: 0o644,
    uid: 0,
    gid: 0,
    nlink: 1,
    inode: 1,
    devMajor: 0,
    devMinor: 0,
    archive: 0,
    mtime: 0,
    sizeBytes: 1,
    rdevMajor: 0,
    rdevMinor: 0,
    sha256: "aa",
    linkTarget: undefined,
    ...more,
  };
}

async function* stream(entries: readonly RamdiskEntry[]): AsyncGenerator<RamdiskEntry> {
  yield* entries;
}

/** Numbered as a writer would. */
function numbered(paths: readonly string[]): RamdiskEntry[] {
  return paths.map((path, index) => entry(path, { inode: index + 1 }));
}

async function compare(
  expected: readonly RamdiskEntry[],
  actual: readonly RamdiskEntry[],
): Promise<RamdiskComparison> {
  return await compareRamdisks(stream(expected), stream(actual), "ramdisk 1");
}

describe("comparing ramdisks", () => {
  test("equal ones have no differences", async () => {
    const entries = numbered(["a", "b", "c"]);
    expect(await compare(entries, entries)).toEqual({ differences: [], count: 0 });
    expect(await compare([], [])).toEqual({ differences: [], count: 0 });
  });

  test.each<[string, Partial<RamdiskEntry>, Pick<RamdiskDifference, "attribute" | "expected" | "actual">]>([
    ["mode", { mode: 0o4755 }, { attribute: "mode", expected: "0644", actual: "4755" }],
    ["uid", { uid: 1 }, { attribute: "uid", expected: "0", actual: "1" }],
    ["gid", { gid: 1 }, { attribute: "gid", expected: "0", actual: "1" }],
    ["nlink", { nlink: 2 }, { attribute: "nlink", expected: "1", actual: "2" }],
    ["mtime", { mtime: 1 }, { attribute: "mtime", expected: "0", actual: "1" }],
    ["content", { sha256: "bb" }, { attribute: "content", expected: "aa", actual: "bb" }],
    ["size", { sizeBytes: 2 }, { attribute: "size", expected: "1", actual: "2" }],
    [
      "type",
      { type: "fifo", sha256: undefined, mode: 0o777 },
      { attribute: "type", expected: "file", actual: "fifo" },
    ],
    ["inode number", { inode: 7 }, { attribute: "inode", expected: "1", actual: "7" }],
    [
      "device",
      { devMajor: 8, devMinor: 1 },
      { attribute: "inode", expected: "1", actual: "1 of device 8:1" },
    ],
  ])("names one changed %s", async (_title, change, difference) => {
    const others = [entry("b", { inode: 2 }), entry("c", { inode: 3 })];
    expect(await compare([entry("a"), ...others], [entry("a", change), ...others])).toEqual({
      differences: [{ ramdisk: "ramdisk 1", path: "a", ...difference }],
      count: 1,
    });
  });

  test("names a changed device and a changed link", async () => {
    const device = entry("d", { type: "character", sha256: undefined, rdevMajor: 1, rdevMinor: 3 });
    const link = entry("l", { type: "symlink", sha256: undefined, linkTarget: "x", inode: 2 });
    const found = await compare(
      [device, link],
      [
        { ...device, rdevMinor: 4 },
        { ...link, linkTarget: "y" },
      ],
    );
    expect(found.differences).toMatchObject([
      { path: "d", attribute: "rdev", expected: "1:3", actual: "1:4" },
      { path: "l", attribute: "target", expected: "x", actual: "y" },
    ]);
  });

  test("one file missing or extra makes no other differ, although all numbers move", async () => {
    const all = numbered(["a", "b", "c", "d", "e"]);
    const fewer = numbered(["a", "b", "d", "e"]);
    expect((await compare(all, fewer)).differences).toMatchObject([
      { path: "c", attribute: "missing", expected: "file", actual: "nothing" },
    ]);
    expect((await compare(fewer, all)).differences).toMatchObject([
      { path: "c", attribute: "extra", expected: "nothing", actual: "file" },
    ]);
  });

  test("the same entries in another order are one difference", async () => {
    const found = await compare(numbered(["a", "b", "c", "d"]), numbered(["a", "c", "d", "b"]));
    expect(found).toMatchObject({
      differences: [{ path: "c", attribute: "order", expected: "entry 3, in archive 1" }],
      count: 1,
    });
  });

  test("the same entries in other archives are one difference", async () => {
    const [a, b] = [entry("a"), entry("b", { inode: 2 })];
    const found = await compare([a, b], [a, { ...b, archive: 1, inode: 1 }]);
    expect(found.differences).toMatchObject([
      { path: "b", attribute: "order", actual: "entry 2, in archive 2" },
    ]);
    expect(found.count).toBe(1);
  });

  test("a name that belongs to another file is found, also where all else is equal", async () => {
    const pair = (path: string, inode: number): RamdiskEntry => entry(path, { nlink: 2, inode });
    const expected = [pair("a", 1), pair("b", 2), pair("c", 1), pair("d", 2)];
    const actual = [pair("a", 1), pair("b", 2), pair("c", 2), pair("d", 1)];
    const found = await compare(expected, actual);
    expect(found.differences.slice(0, 2)).toMatchObject([
      { path: "c", attribute: "inode", expected: "the file a", actual: "the file b" },
      { path: "d", attribute: "inode", expected: "the file b", actual: "the file a" },
    ]);
  });

  test("a path that comes twice is compared with its own counterpart", async () => {
    const [one, two] = [entry("a", { sha256: "01" }), entry("a", { sha256: "02", inode: 2 })];
    expect((await compare([one, two], [one, two])).count).toBe(0);
    expect((await compare([one, two], [one])).differences).toMatchObject([{ attribute: "missing" }]);
    expect((await compare([one, two], [two, one])).differences[0]).toMatchObject({ attribute: "content" });
  });

  test("of very many differences the first hundred are told and all are counted", async () => {
    const paths = Array.from({ length: 5000 }, (_, index) => `f${index}`);
    const found = await compare(
      numbered(paths),
      numbered(paths).map((one) => ({ ...one, mode: 0o600 })),
    );
    expect(found.count).toBe(5000);
    expect(found.differences).toHaveLength(MAX_DIFFERENCES);
    expect(found.differences[0]).toMatchObject({ path: "f0" });
  });

  test("two that have nothing in common are given up before they fill the memory", async () => {
    async function* long(side: string): AsyncGenerator<RamdiskEntry> {
      for (let index = 0; index < 1_000_000; index += 1) yield entry(`${side}${index}${"x".repeat(4000)}`);
    }
    expect(await codeOf(compareRamdisks(long("a"), long("b"), "ramdisk 1"))).toBe("E_RAMDISK_LIMIT");
  });

  test("a side that fails ends both", async () => {
    let isClosed = false;
    async function* endless(): AsyncGenerator<RamdiskEntry> {
      try {
        for (;;) yield entry("a");
      } finally {
        isClosed = true;
      }
    }
    async function* failing(): AsyncGenerator<RamdiskEntry> {
      yield entry("a");
      throw new Error("damaged");
    }
    await expect(compareRamdisks(endless(), failing(), "ramdisk 1")).rejects.toThrow("damaged");
    expect(isClosed).toBe(true);
  });
});
