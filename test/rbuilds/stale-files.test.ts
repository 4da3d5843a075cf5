import { lutimes, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

import { removeStaleFiles } from "../../rbuilds/stale-files.ts";

const HOUR_S = 3600;
const HEX_12 = "0123456789ab";
const HEX_16 = "0123456789abcdef";

let cacheDir = "";
let outputDir = "";

beforeEach(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "stale-"));
  outputDir = join(cacheDir, "output");
});
afterEach(async () => await rm(cacheDir, { recursive: true }));

/** A file in the cache, last written that many hours ago. */
async function makeFile(name: string, ageHours: number): Promise<string> {
  const path = join(cacheDir, name);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, "half");
  await age(path, ageHours);
  return path;
}

async function age(path: string, hours: number): Promise<void> {
  const seconds = Date.now() / 1000 - hours * HOUR_S;
  await lutimes(path, seconds, seconds);
}

test("temporary files of killed builds go when they are a day old", async () => {
  const names = [
    `blobs/sha256/.${HEX_16}.tmp`,
    `compiled/abc.json.${HEX_12}.tmp`,
    `debs/.${HEX_12}.tmp`,
    `images/abc.json.${HEX_12}.tmp`,
    `imports-1/abc.${HEX_12}.tmp`,
    `ramdisks/abc.cpio.zst.${HEX_12}.tmp`,
    `output/.${HEX_16}.eif.tmp`,
    `output/a.eif.provenance.json.${HEX_12}.tmp`,
  ];
  const old: string[] = [];
  for (const name of names) old.push(await makeFile(name, 25));
  expect((await removeStaleFiles({ cacheDir, outputDir })).sort()).toEqual(old.sort());
  expect(await readdir(outputDir)).toEqual([]);
});

test("younger ones stay, and so does everything that is not the toolkit's to throw away", async () => {
  const kept = [
    await makeFile(`ramdisks/abc.cpio.zst.${HEX_12}.tmp`, 23),
    await makeFile(`ramdisks/abc.cpio.zst`, 1000),
    await makeFile(`images/abc.json`, 1000),
    await makeFile(`blobs/sha256/ab/abcdef`, 1000),
    await makeFile(`output/.${HEX_16}.eif.tmp`, 23),
    await makeFile("output/.hello.eif.tmp", 1000),
    await makeFile(`output/mine.${HEX_12}.tmp`, 1000),
    await makeFile("output/eif-AbCdEf", 1000),
  ];
  expect(await removeStaleFiles({ cacheDir, outputDir })).toEqual([]);
  for (const path of kept)
    expect(await readdir(dirname(path))).toContain(path.slice(dirname(path).length + 1));
});

test("a folder is as old as the last thing in it", async () => {
  for (const name of ["eif-AbCdEf", "eif-000000", "compiled/work-AbCdEf", "compiled/work-000000"]) {
    await makeFile(`${name}/result.tar`, name.endsWith("000000") ? 1 : 25);
    await age(join(cacheDir, name), 25);
  }
  const removed = await removeStaleFiles({ cacheDir, outputDir });
  expect(removed.sort()).toEqual([join(cacheDir, "compiled/work-AbCdEf"), join(cacheDir, "eif-AbCdEf")]);
  expect(await readdir(join(cacheDir, "eif-000000"))).toEqual(["result.tar"]);
});

test("a cache that is not there yet has nothing to remove", async () => {
  const nowhere = join(cacheDir, "nowhere");
  expect(await removeStaleFiles({ cacheDir: nowhere, outputDir: nowhere })).toEqual([]);
});
