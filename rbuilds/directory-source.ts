/** Files of the host as part of an image: owners are not kept, since they mean nothing inside. */
import type { Stats } from "node:fs";
import { lstat, readdir, readlink, stat } from "node:fs/promises";
import { join } from "node:path";

import { isErrno, KitError } from "../core/errors.ts";
import type { ManifestEntry } from "../wire/manifest.ts";
import type { BlobStore } from "./blob-store.ts";
import { compareBytes, type FileTree, joinPath } from "./file-tree.ts";

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
  readonly signal?: AbortSignal | undefined;
}

/**
 * Adds the file or directory `from` of the host at `to`. A link in `from` itself is followed; links below stay links.
 * Where the image has a link to a directory, a directory goes into that one: a folder with `bin/` copied to `/` does
 * not replace a merged /bin.
 * @throws E_CONFIG_FILE_MISSING, E_IMAGE_SOURCE for devices, sockets, names that are not UTF-8 and files that cannot be
 *   read.
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

async function addEntry(
  from: string,
  to: string,
  info: Stats,
  options: DirectorySourceOptions,
): Promise<void> {
  options.signal?.throwIfAborted();
  const base = {
    path: to,
    mode: options.modes === "normal" ? normalMode(info) : info.mode & 0o7777,
    uid: options.owner?.uid ?? 0,
    gid: options.owner?.gid ?? 0,
  };
  if (info.isDirectory()) {
    await addFolder(from, { ...base, type: "directory" }, options);
  } else if (info.isSymbolicLink()) {
    const target = decodeText(from, await readable(from, readlink(from, { encoding: "buffer" })));
    putFileEntry(options.tree, { ...base, mode: 0o777, type: "symlink", target });
  } else if (info.isFile()) {
    const { digest, size } = await readable(from, options.blobs.putFile(from, { signal: options.signal }));
    putFileEntry(options.tree, { ...base, type: "file", digest, size });
  } else {
    throw new KitError("E_IMAGE_SOURCE", `${from} is neither file, directory nor symbolic link`);
  }
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
  for (const name of names.map((bytes) => decodeText(from, bytes)).sort(compareBytes)) {
    const child = join(from, name);
    await addEntry(child, joinPath(place, name), await readable(child, lstat(child)), options);
  }
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
