import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzipSync, zstdCompressSync } from "node:zlib";

import { afterAll, beforeAll, expect, test } from "vitest";

import { openBlobStore } from "../../rbuilds/blob-store.ts";
import { type EnclaveKernel, openEnclaveKernel } from "../../rbuilds/kernel/enclave-kernel.ts";
import { DEFAULT_FEATURES } from "../../rbuilds/kernel/kernel-features.ts";
import { ARCHITECTURE } from "../fixtures/rbuilds/debian-testbed.ts";
import { openTestToolchain, type TestToolchain } from "../fixtures/rbuilds/toolchain-testbed.ts";

let directory = "";
let toolchain: TestToolchain;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "modules-"));
  toolchain = await openTestToolchain();
}, 600_000);
afterAll(async () => await rm(directory, { recursive: true }));

test("modules of every compression that distributions use come out as they were", async () => {
  const texts = {
    "vsock.ko.gz": gzipSync("vsock"),
    "tun.ko.zst": zstdCompressSync(Buffer.from("tun")),
    "fuse.ko": "fuse",
  };
  const kernel = await open("compressed", texts);
  expect(kernel.modules.map(({ name }) => name)).toEqual(["vsock", "fuse", "tun"]);
  expect(await contents(kernel)).toEqual(["vsock", "fuse", "tun"]);
});

test("xz is expanded by the toolchain, not by this machine", async ({ skip }) => {
  const plain = join(directory, "overlay.ko");
  await writeFile(plain, "overlay");
  const packed = join(directory, "packed");
  await mkdir(packed);
  const made = await promisify(execFile)("xz", ["-k", "-c", plain], { encoding: "buffer" }).catch(
    () => undefined,
  );
  if (made === undefined) return skip("no xz on this machine to make the input with");
  const kernel = await open("xz", { "overlay.ko.xz": made.stdout });
  expect(await contents(kernel)).toEqual(["overlay"]);
});

test("a module that unpacks to more than it may is refused", async () => {
  const bomb = gzipSync(Buffer.alloc(80 * 1024 * 1024));
  await expect(open("bomb", { "vsock.ko.gz": bomb })).rejects.toMatchObject({ code: "E_KERNEL_FILE" });
  await expect(open("garbage", { "vsock.ko.gz": "no gzip" })).rejects.toMatchObject({
    code: "E_KERNEL_FILE",
  });
});

async function open(
  name: string,
  files: Readonly<Record<string, string | Uint8Array>>,
): Promise<EnclaveKernel> {
  const folder = join(directory, name);
  await mkdir(join(folder, "kernel"), { recursive: true });
  for (const [file, bytes] of Object.entries(files)) await writeFile(join(folder, "kernel", file), bytes);
  const table = Object.keys(files).map((file) => `kernel/${file}:\n`);
  await writeFile(join(folder, "modules.dep"), table.join(""));
  await writeFile(join(folder, "vmlinuz"), "kernel");
  const config = DEFAULT_FEATURES.map(({ option }) => `CONFIG_${option}=y\n`).join("");
  await writeFile(join(folder, "config"), config);
  const cacheDir = join(directory, "cache");
  const blobs = await openBlobStore(join(cacheDir, "blobs"));
  const spec = {
    kind: "file",
    file: join(folder, "vmlinuz"),
    config: join(folder, "config"),
    modules: folder,
  } as const;
  return await openEnclaveKernel(
    { spec, source: undefined, fragmentPath: "", jobs: 1 },
    { ...toolchain, architecture: ARCHITECTURE, cacheDir, blobs },
  );
}

async function contents({ modules }: EnclaveKernel): Promise<string[]> {
  const blobs = await openBlobStore(join(directory, "cache", "blobs"));
  return await Promise.all(modules.map(async ({ blob }) => await readFile(blobs.path(blob.digest), "utf8")));
}
