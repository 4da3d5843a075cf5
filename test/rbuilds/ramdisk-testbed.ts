import { createHash } from "node:crypto";
import { delimiter, join } from "node:path";
import { access, constants, readFile, writeFile } from "node:fs/promises";

import { FileTree } from "../../rbuilds/file-tree.ts";
import type { PreparedFile } from "../../rbuilds/prepared-file.ts";
import { type RamdiskEntry, type RamdiskLimits, readRamdisk } from "../../rbuilds/ramdisk/read-ramdisk.ts";
import type { Manifest, ManifestEntry } from "../../wire/manifest.ts";
import { encodeNewcHead, encodeNewcTrailer, type NewcType } from "../../wire/newc/newc-header.ts";
import { openRootfsTestbed, type RootfsTestbed } from "./rootfs-testbed.ts";

const ROOT = { uid: 0, gid: 0 };

export const directory = (path: string, mode = 0o755): ManifestEntry => ({
  type: "directory",
  path,
  mode,
  ...ROOT,
});

export const symlink = (path: string, target: string): ManifestEntry => ({
  type: "symlink",
  path,
  mode: 0o777,
  ...ROOT,
  target,
});

export const hardlink = (path: string, target: string): ManifestEntry => ({
  type: "hardlink",
  path,
  mode: 0o644,
  ...ROOT,
  target,
});

/** A file tree, its blobs and a cache in one directory. */
export class RamdiskTestbed implements AsyncDisposable {
  readonly bed: RootfsTestbed;
  #files = 0;

  constructor(bed: RootfsTestbed) {
    this.bed = bed;
  }

  async file(path: string, content: string | Uint8Array, mode = 0o644): Promise<ManifestEntry> {
    const { digest, size } = await this.bed.blobs.put(Buffer.from(content));
    return { type: "file", path, mode, ...ROOT, digest, size };
  }

  /** A path of its own for each call. */
  path(name: string): string {
    this.#files += 1;
    return this.bed.path(`${this.#files}-${name}`);
  }

  async write(bytes: Uint8Array): Promise<string> {
    const path = this.path("ramdisk");
    await writeFile(path, bytes);
    return path;
  }

  /** All entries of bytes that lie between other bytes in a file. */
  async read(bytes: Uint8Array, limits: Partial<RamdiskLimits> = {}): Promise<RamdiskEntry[]> {
    const path = await this.write(Buffer.concat([Buffer.from("before"), bytes, Buffer.from("after")]));
    return await Array.fromAsync(readRamdisk(path, { offset: 6, sizeBytes: bytes.length, limits }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.bed[Symbol.asyncDispose]();
  }
}

export async function openRamdiskTestbed(): Promise<RamdiskTestbed> {
  return new RamdiskTestbed(await openRootfsTestbed());
}

export function manifestOf(...entries: readonly ManifestEntry[]): Manifest {
  const tree = new FileTree();
  for (const entry of entries) tree.set(entry);
  return tree.toManifest();
}

export async function bytesOf(files: readonly PreparedFile[]): Promise<Buffer> {
  return Buffer.concat(await Promise.all(files.map(({ path }) => readFile(path))));
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

export interface PlainEntry {
  readonly name: string;
  readonly type?: NewcType;
  readonly body?: string | Uint8Array;
  readonly mode?: number;
  readonly inode?: number;
  readonly nlink?: number;
  readonly uid?: number;
}

/** A whole archive. */
export function newcOf(...entries: readonly PlainEntry[]): Buffer {
  const parts = entries.flatMap(({ name, body = "", type = "file", ...more }, index) => {
    const bytes = Buffer.from(body);
    const base = {
      mode: 0o644,
      uid: 0,
      gid: 0,
      inode: index + 1,
      nlink: 1,
      mtime: 0,
      rdevMajor: 0,
      rdevMinor: 0,
    };
    const head = encodeNewcHead(Buffer.from(name), { ...base, type, ...more, sizeBytes: bytes.length });
    return [head, bytes, Buffer.alloc(-bytes.length & 3)];
  });
  return Buffer.concat([...parts, encodeNewcTrailer()]);
}

/** Whether the machine has a program; tests that compare with it are skipped otherwise. */
export async function hasProgram(name: string): Promise<boolean> {
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  const found = folders.map(async (folder) => {
    await access(join(folder, name), constants.X_OK);
  });
  return await Promise.any(found).then(
    () => true,
    () => false,
  );
}
