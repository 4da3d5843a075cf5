/** Files of the host as part of an image: owners are not kept, since they mean nothing inside. */
import type { Stats } from "node:fs";
import { lstat, readdir, readlink, stat } from "node:fs/promises";
import { join } from "node:path";

import { isErrno, KitError } from "../core/errors.ts";
import type { ManifestEntry } from "../wire/manifest.ts";
import type { BlobStore, StoredBlob } from "./blob-store.ts";
import { compareBytes, type FileTree, joinPath } from "./file-tree.ts";

/** Files read at the same time: hundreds of thousands of small ones wait for nothing but one another. */
const AT_ONCE = 16;

export interface DirectorySourceOptions {
  readonly tree: FileTree;
  readonly blobs: BlobStore;
  /** Of every file; root unless told. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /**
   * "kept" unless told. "normal": 0755 for directories and for files that their owner may execute, else 0644, so that
   * neither the umask of a checkout nor its user shows in the image; version control keeps no more than that.
   */
  readonly modes?: "kept" | "normal";
  /** Of a file; any unless told. */
  readonly maxFileBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Adds the file or directory `from` of the host at `to`. A link in `from` itself is followed; links below stay links.
 * Where the image has a link to a directory, a directory goes into that one: a folder with `bin/` copied to `/` does
 * not replace a merged /bin.
 * @throws E_CONFIG_FILE_MISSING, E_IMAGE_SOURCE for devices, sockets, names that are not UTF-8 and files that cannot be
 *   read, E_RAMDISK_FILE_TOO_LARGE.
 */
export async function addDirectory(from: string, to: string, options: DirectorySourceOptions): Promise<void> {
  const info = await stat(from).catch((error: unknown) => {
    const reason = isErrno(error) ? error.code : String(error);
    throw new KitError("E_CONFIG_FILE_MISSING", `cannot read ${from}: ${reason}`, { cause: error });
  });
  // As when a layer is unpacked, links in the parents of the target are followed inside the image.
  const place = to === "/" ? "/" : placeInside(options.tree, to);
  await addEntry(from, place, info, options);
}

function placeInside(tree: FileTree, to: string): string {
  const path = to.endsWith("/") ? to.slice(0, -1) : to;
  const cut = path.lastIndexOf("/");
  return joinPath(tree.resolve(path.slice(0, cut) || "/"), path.slice(cut + 1));
}

/** What is known of a file of the host before the tree is. */
type Loaded =
  | { readonly type: "directory" }
  | { readonly type: "symlink"; readonly target: string }
  | ({ readonly type: "file" } & StoredBlob);

async function addEntry(
  from: string,
  to: string,
  info: Stats,
  options: DirectorySourceOptions,
): Promise<void> {
  await placeEntry(from, to, { info, loaded: await load(from, info, options) }, options);
}

async function load(from: string, info: Stats, options: DirectorySourceOptions): Promise<Loaded> {
  options.signal?.throwIfAborted();
  if (info.isDirectory()) return { type: "directory" };
  if (info.isFile()) return { type: "file", ...(await importContent(from, info, options)) };
  if (!info.isSymbolicLink())
    throw new KitError("E_IMAGE_SOURCE", `${from} is neither file, directory nor symbolic link`);
  const target = await readable(from, readlink(from, { encoding: "buffer" }));
  return { type: "symlink", target: decodeText(from, target) };
}

async function placeEntry(
  from: string,
  to: string,
  { info, loaded }: { readonly info: Stats; readonly loaded: Loaded },
  options: DirectorySourceOptions,
): Promise<void> {
  const base = {
    path: to,
    mode: options.modes === "normal" ? normalMode(info) : info.mode & 0o7777,
    uid: options.owner?.uid ?? 0,
    gid: options.owner?.gid ?? 0,
  };
  if (loaded.type === "directory") await addFolder(from, { ...base, ...loaded }, options);
  else if (loaded.type === "symlink") putFileEntry(options.tree, { ...base, ...loaded, mode: 0o777 });
  else putFileEntry(options.tree, { ...base, ...loaded });
}

/** A large file is refused before it fills the disk, and one that grows while it is read as soon as it is too large. */
async function importContent(
  from: string,
  info: Stats,
  { blobs, maxFileBytes: maxBytes, signal }: DirectorySourceOptions,
): Promise<StoredBlob> {
  if (maxBytes !== undefined && info.size > maxBytes) {
    const message = `${from} has ${info.size} bytes; a file of an image has at most ${maxBytes}`;
    const details = { path: from, sizeBytes: info.size };
    throw new KitError("E_RAMDISK_FILE_TOO_LARGE", message, { details });
  }
  return await readable(from, blobs.putFile(from, { signal, maxBytes }));
}

function normalMode(info: Stats): number {
  return info.isDirectory() || (info.mode & 0o100) !== 0 ? 0o755 : 0o644;
}

/** A file of its own: other names that the image gave the old one keep that. */
function putFileEntry(tree: FileTree, entry: ManifestEntry): void {
  tree.remove(entry.path);
  tree.set(entry);
}

/** A directory that the image has already keeps its attributes, as when a folder is copied over another. */
async function addFolder(
  from: string,
  folder: ManifestEntry,
  options: DirectorySourceOptions,
): Promise<void> {
  const path = options.tree.resolve(folder.path);
  const isThere = options.tree.get(path)?.type === "directory";
  if (!isThere) options.tree.set(folder);
  const place = isThere ? path : folder.path;
  const names = await readable(from, readdir(from, { encoding: "buffer" }));
  const sorted = names.map((bytes) => decodeText(from, bytes)).sort(compareBytes);
  for (let start = 0; start < sorted.length; start += AT_ONCE) {
    const some = sorted.slice(start, start + AT_ONCE);
    const loading = some.map(async (name) => await loadChild(join(from, name), options));
    // All end before one is told to have failed: nothing is written behind the back of who hears it.
    for (const [index, result] of (await Promise.allSettled(loading)).entries()) {
      if (result.status === "rejected") throw result.reason;
      const name = some[index] ?? "";
      await placeEntry(join(from, name), joinPath(place, name), result.value, options);
    }
  }
}

async function loadChild(path: string, options: DirectorySourceOptions) {
  const info = await readable(path, lstat(path));
  return { info, loaded: await load(path, info, options) };
}

/** A path of an image is UTF-8 and nothing else, so that it has one meaning. */
function decodeText(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    const what = JSON.stringify(Buffer.from(bytes).toString("latin1"));
    throw new KitError("E_IMAGE_SOURCE", `${path}: ${what} is not UTF-8`, { cause: error });
  }
}

async function readable<T>(path: string, reading: Promise<T>): Promise<T> {
  try {
    return await reading;
  } catch (error) {
    if (!isErrno(error) || error.code === "ENOSPC") throw error;
    throw new KitError("E_IMAGE_SOURCE", `cannot read ${path}: ${error.code}`, { cause: error });
  }
}
