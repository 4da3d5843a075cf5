import { mkdir, mkdtemp, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

import { type BlobStore, openBlobStore } from "../../rbuilds/blob-store.ts";
import { addDirectory } from "../../rbuilds/directory-source.ts";
import { FileTree } from "../../rbuilds/file-tree.ts";
import { fingerprintSource } from "../../rbuilds/source-fingerprint.ts";

const MAX_FILE_BYTES = 0xff_ff_ff_ff;

let directory = "";
let blobs: BlobStore;
let tree: FileTree;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "source-"));
  blobs = await openBlobStore(join(directory, "blobs"));
  tree = new FileTree();
  await mkdir(join(directory, "from"));
});
afterEach(async () => await rm(directory, { recursive: true }));

async function add(maxFileBytes?: number): Promise<void> {
  await addDirectory(join(directory, "from"), "/to", { tree, blobs, maxFileBytes });
}

async function blobNames(): Promise<string[]> {
  return await readdir(join(directory, "blobs", "sha256"), { recursive: true });
}

test("a file that is too large is refused by name before any of it is copied", async () => {
  const path = join(directory, "from", "huge");
  await writeFile(path, "");
  await truncate(path, MAX_FILE_BYTES + 1);
  await expect(add(MAX_FILE_BYTES)).rejects.toMatchObject({
    code: "E_RAMDISK_FILE_TOO_LARGE",
    message: `${path} has 4294967296 bytes; a file of an image has at most 4294967295`,
    details: { path, sizeBytes: MAX_FILE_BYTES + 1 },
  });
  expect(await blobNames()).toEqual([]);
});

test("a file of the largest size is taken, of every size around what is read at once", async () => {
  const sizes = [0, 1, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 300_000];
  for (const size of sizes) await writeFile(join(directory, "from", `${size}`), Buffer.alloc(size, "ab"));
  await add(300_000);
  for (const size of sizes) {
    const entry = tree.get(`/to/${size}`);
    expect(entry).toMatchObject({ type: "file", size });
    const content = entry?.type === "file" ? await blobs.read(entry.digest, size) : undefined;
    expect(content?.equals(Buffer.alloc(size, "ab"))).toBe(true);
  }
  await expect(add(299_999)).rejects.toMatchObject({ code: "E_RAMDISK_FILE_TOO_LARGE" });
});

test("of several files that cannot be taken the first by name is told, and nothing is left half-written", async () => {
  for (const name of ["a", "b", "c", "d"]) {
    await writeFile(join(directory, "from", name), name.repeat(50_000));
    if (name > "a") await truncate(join(directory, "from", name), 200_000);
  }
  await expect(add(100_000)).rejects.toMatchObject({ details: { path: join(directory, "from", "b") } });
  expect((await blobNames()).filter((name) => name.endsWith(".tmp"))).toEqual([]);
});

test("more files than are read at once keep their order and contents", async () => {
  const names = Array.from({ length: 50 }, (_, index) => String(index).padStart(2, "0"));
  for (const name of names) await writeFile(join(directory, "from", name), name);
  await add();
  const entries = tree.entries().filter(({ type }) => type === "file");
  expect(entries.map(({ path }) => path)).toEqual(names.map((name) => `/to/${name}`));
  for (const [index, entry] of entries.entries())
    expect(String(entry.type === "file" ? await blobs.read(entry.digest, 10) : "")).toBe(names[index]);
});

test("a name that is not UTF-8 has a fingerprint, and is refused when it is copied", async () => {
  const from = join(directory, "from");
  const nameOf = (byte: number): Buffer => Buffer.concat([Buffer.from(`${from}/caf`), Buffer.from([byte])]);
  await writeFile(nameOf(0xe9), "");
  const one = await fingerprintSource(from);
  await rm(nameOf(0xe9));
  await writeFile(nameOf(0xe8), "");
  expect(await fingerprintSource(from)).not.toBe(one);
  await expect(add()).rejects.toMatchObject({
    code: "E_IMAGE_SOURCE",
    message: `${from}: "caf\u00e8" is not UTF-8`,
  });
});
