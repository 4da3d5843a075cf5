import {
  chmod,
  lchown,
  link,
  lutimes,
  mkdir,
  readdir,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";

import { describeTree, isRoot, openArchiveBed, packToBytes, unpackBytes } from "./archive-bed.ts";

interface TreeNode {
  readonly kind: "file" | "directory" | "link";
  readonly mode: number;
  readonly mtimeMs: number;
  readonly owner: number;
  readonly content: string;
  readonly children: readonly (readonly [string, TreeNode])[];
}

const names = fc
  .oneof(
    fc.string({ unit: "binary", minLength: 1, maxLength: 60 }),
    fc.string({ unit: "grapheme-ascii", minLength: 90, maxLength: 255 }),
    fc.constantFrom("a", "b", " ", "\n", "ü", "..a", "%s", "\uFEFF", "x".repeat(100), "x".repeat(101)),
  )
  .map((name) => name.toWellFormed().replaceAll(/[/\0]/g, "_"))
  .filter((name) => name !== "." && name !== ".." && Buffer.byteLength(name) <= 255);

const attributes = {
  mode: fc.integer({ min: 0, max: 0o7777 }).map((mode) => (isRoot ? mode : (mode & 0o777) | 0o700)),
  mtimeMs: fc.integer({ min: -2_000_000_000_000, max: 20_000_000_000_000 }),
  owner: fc.constantFrom(0, 1, 1000, 2_097_151, 2_097_152, 4_000_000_000),
  content: fc.oneof(
    fc.string({ maxLength: 1100 }),
    fc.constantFrom("", "x".repeat(512), "x".repeat(4000), "y".repeat(1_100_000)),
  ),
};
const leaf: fc.Arbitrary<TreeNode> = fc.record({
  ...attributes,
  kind: fc.constantFrom("directory", "file", "link"),
  children: fc.constant([]),
});

const tree = fc.memo((depth): fc.Arbitrary<TreeNode> => {
  const children = fc.uniqueArray(fc.tuple(names, depth > 1 ? tree(depth - 1) : leaf), {
    maxLength: 4,
    selector: ([name]) => name,
  });
  return fc.record({ ...attributes, kind: fc.constantFrom("directory", "file", "link"), children });
});

async function writeTree(path: string, node: TreeNode): Promise<void> {
  if (node.kind === "link") await symlink(node.content.slice(0, 4000) || "nowhere", path);
  else if (node.kind === "file") await writeFile(path, node.content);
  else {
    await mkdir(path);
    for (const [name, child] of node.children) await writeTree(join(path, name), child);
  }
  if (isRoot) await lchown(path, node.owner, node.owner);
  if (node.kind !== "link") await chmod(path, node.mode);
  await lutimes(path, new Date(), new Date(node.mtimeMs));
}

test("any tree of files, directories and links comes out as it went in", async () => {
  await using bed = await openArchiveBed();
  let run = 0;
  await fc.assert(
    fc.asyncProperty(names, tree(4), async (name, node) => {
      run += 1;
      const [from, to] = [bed.path(`from-${run}`), bed.path(`to-${run}`)];
      await mkdir(from);
      await mkdir(to);
      await writeTree(join(from, name), node);
      const archive = await packToBytes(join(from, name));
      const summary = await unpackBytes(archive, to);
      expect(await readdir(to)).toEqual([name]);
      const lines = await describeTree(join(to, name));
      expect(lines).toEqual(await describeTree(join(from, name)));
      expect(archive.length % 512).toBe(0);
      expect(await packToBytes(join(from, name))).toEqual(archive);
      expect(summary.entries).toBeGreaterThan(0);
    }),
    { numRuns: 60 },
  );
});

test("names of one file stay names of one file, inside the archive and nowhere else", async () => {
  await using bed = await openArchiveBed();
  await mkdir(bed.path("from/d/e"), { recursive: true });
  await writeFile(bed.path("from/one"), "content");
  await link(bed.path("from/one"), bed.path("from/d/two"));
  await link(bed.path("from/one"), bed.path("from/d/e/three"));
  await link(bed.path("from/one"), bed.path("outside"));
  const summary = await unpackBytes(await packToBytes(bed.path("from")), bed.path("to"));
  expect(summary).toEqual({ entries: 6, bytes: 7 });
  const [one, two, three] = await Promise.all(
    ["one", "d/two", "d/e/three"].map((name) => stat(bed.path("to", name))),
  );
  expect([two?.ino, three?.ino, one?.nlink]).toEqual([one?.ino, one?.ino, 3]);
});

test("names of one file stay that when the copy is put over an earlier one", async () => {
  await using bed = await openArchiveBed();
  await mkdir(bed.path("from"));
  await mkdir(bed.path("to"));
  await writeFile(bed.path("from/one"), "content");
  await link(bed.path("from/one"), bed.path("from/two"));
  const archive = await packToBytes(bed.path("from"));
  for (let time = 0; time < 2; time += 1) await unpackBytes(archive, bed.path("to"));
  const [one, two] = await Promise.all(["one", "two"].map((name) => stat(bed.path("to/from", name))));
  expect([two?.ino, one?.nlink]).toEqual([one?.ino, 2]);
  expect((await readdir(bed.path("to/from"))).sort()).toEqual(["one", "two"]);
});

test("a time is kept to the microsecond in a file, and to the nanosecond in the archive", async () => {
  await using bed = await openArchiveBed();
  await writeFile(bed.path("f"), "");
  await utimes(bed.path("f"), 1, 1_700_000_000.123_456);
  const { mtimeNs } = await stat(bed.path("f"), { bigint: true });
  const archive = await packToBytes(bed.path("f"));
  expect(archive.includes(`mtime=1700000000.${String(mtimeNs).slice(-9).replace(/0+$/, "")}\n`)).toBe(true);
  await unpackBytes(archive, bed.path("g"));
  const copied = (await stat(bed.path("g"), { bigint: true })).mtimeNs;
  expect(Number(copied - mtimeNs)).toBeLessThanOrEqual(1000);
  expect(Number(mtimeNs - copied)).toBeLessThanOrEqual(1000);
});

test("special modes and owners are dropped where they are not wanted", async () => {
  await using bed = await openArchiveBed();
  await mkdir(bed.path("d"));
  await writeFile(bed.path("d/f"), "x");
  if (isRoot) await lchown(bed.path("d/f"), 1234, 1234);
  await chmod(bed.path("d/f"), 0o6755);
  await chmod(bed.path("d"), 0o1777);
  const archive = await packToBytes(bed.path("d"));
  await unpackBytes(archive, bed.path("e"), { owners: "caller", specialModes: "drop" });
  const file = await stat(bed.path("e/f"));
  expect([file.mode & 0o7777, file.uid]).toEqual([0o755, process.getuid?.()]);
  expect((await stat(bed.path("e"))).mode & 0o7777).toBe(0o777);
});
