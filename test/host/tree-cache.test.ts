import { mkdir, mkdtemp, readdir, rm, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

import { doomedName, findOldTrees, leaseTree, touchTree } from "../../host/backends/local/tree-cache.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "trees-"));
});
afterEach(() => rm(folder, { recursive: true }));

/** A tree that was used `minutes` ago. */
async function addTree(name: string, minutes: number): Promise<string> {
  const path = join(folder, name);
  const used = new Date(Date.now() - minutes * 60_000);
  await mkdir(path);
  await utimes(path, used, used);
  return path;
}

test("trees in use and the latest few stay, the oldest and what killed commands left go", async () => {
  for (let index = 0; index < 9; index += 1) await addTree(`tree${index}-single`, index);
  await addTree("other-r100", 500);
  await addTree(".half-written.tmp", 120);
  await addTree(".being-written.tmp", 1);
  await using _lease = await leaseTree(join(folder, "tree8-single"), process.pid);
  const old = (await findOldTrees(folder, "-single")).map((path) => basename(path));
  expect(old).toEqual([".half-written.tmp", "tree6-single", "tree7-single"]);
});

test("a lease ends with its owner, and one of a process that is gone counts for nothing", async () => {
  const tree = await addTree("a-single", 1);
  await using lease = await leaseTree(tree, process.pid);
  await mkdir(join(folder, "unrelated"));
  await using dead = await leaseTree(tree, 2 ** 22 + 1);
  expect((await readdir(folder)).filter((name) => name.includes("lease"))).toHaveLength(2);
  await findOldTrees(folder, "-single");
  expect((await readdir(folder)).filter((name) => name.includes("lease"))).toHaveLength(1);
  await lease[Symbol.asyncDispose]();
  expect((await readdir(folder)).filter((name) => name.includes("lease"))).toEqual([]);
  expect(dead).toBeDefined();
});

test("a use is marked, and a tree that is not there is told", async () => {
  for (let index = 0; index < 7; index += 1) await addTree(`tree${index}-single`, index + 1);
  expect(await touchTree(join(folder, "tree6-single"))).toBe(true);
  expect(await touchTree(join(folder, "none-single"))).toBe(false);
  expect((await findOldTrees(folder, "-single")).map((path) => basename(path))).toEqual(["tree5-single"]);
  expect(basename(doomedName(join(folder, "x")))).toMatch(/^\.x\.\d+\.old$/);
});
