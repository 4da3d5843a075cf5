/**
 * A manifest as real files, for backends that run from a directory. Owners cannot be set by everybody, so there are
 * three ways; devices are left out (init and the launcher bring the few that an enclave has), and so are extended
 * attributes, which Node cannot write: both are counted in the result.
 */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import {
  chmod,
  copyFile,
  lchown,
  link,
  lstat,
  mkdir,
  readdir,
  rename,
  rm,
  stat,
  symlink,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import { forEachConcurrently } from "../core/concurrency.ts";
import { isErrno, KitError, toKitError } from "../core/errors.ts";
import type { Manifest, ManifestEntry } from "../wire/manifest.ts";

/** Files in flight at once. */
const CONCURRENCY = 16;

/** How owners become real. */
export type TreeOwners =
  /** By root: host id = id of the manifest + base; ids beyond count are refused. */
  | { readonly kind: "shifted"; readonly base: number; readonly count: number }
  /** Inside a user namespace that maps the ids of the manifest: as they are. */
  | { readonly kind: "mapped" }
  /** Everything belongs to the caller; setuid and setgid bits are dropped. */
  | { readonly kind: "single" };

export interface TreeOptions {
  readonly owners: TreeOwners;
  /** Where a blob lies. */
  readonly blobPath: (digest: string) => string;
  readonly signal?: AbortSignal | undefined;
}

export interface TreeResult {
  readonly devicesSkipped: number;
  readonly xattrsSkipped: number;
}

/**
 * Writes the tree beside `directory` and renames it there: it appears whole or not at all. If another process made
 * the same tree first, that one stays.
 * @throws E_IMAGE_TREE, E_IMAGE_BLOB_MISSING, E_DISK_FULL
 */
export async function materialiseTree(
  manifest: Manifest,
  directory: string,
  options: TreeOptions,
): Promise<TreeResult> {
  const temporary = join(dirname(directory), `.${basename(directory)}.${randomBytes(6).toString("hex")}.tmp`);
  try {
    const result = await writeTree(manifest, temporary, options);
    await publish(temporary, directory);
    return result;
  } catch (error) {
    throw await cleanUp(temporary, describeFailure(error, directory));
  }
}

/** What went wrong first is what the operator hears of. */
async function cleanUp(temporary: string, failure: KitError): Promise<KitError> {
  try {
    await removeTree(temporary);
    return failure;
  } catch (error) {
    const message = `${failure.message}; what was written of it stays in ${temporary} (${String(error)})`;
    return new KitError(failure.code, message, { cause: failure });
  }
}

/** Removes a tree of the caller's, also where directories of it are not writable. */
export async function removeTree(directory: string): Promise<void> {
  // Root needs no permission, here or in a user namespace.
  if (process.geteuid?.() !== 0 && (await isDirectory(directory))) await makeWritable(directory);
  await rm(directory, { recursive: true, force: true });
}

async function isDirectory(path: string): Promise<boolean> {
  const info = await lstat(path).catch((error: unknown) => {
    if (!isErrno(error, "ENOENT")) throw error;
  });
  return info?.isDirectory() === true;
}

async function makeWritable(directory: string): Promise<void> {
  await chmod(directory, 0o700);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) await makeWritable(join(directory, entry.name));
  }
}

async function publish(temporary: string, directory: string): Promise<void> {
  try {
    await rename(temporary, directory);
  } catch (error) {
    if (!isErrno(error, "ENOTEMPTY") && !isErrno(error, "EEXIST")) throw error;
    await removeTree(temporary);
  }
}

function describeFailure(error: unknown, directory: string): KitError {
  if (error instanceof KitError || isErrno(error, "ENOSPC")) return toKitError(error);
  if (!isErrno(error)) return toKitError(error);
  return new KitError("E_IMAGE_TREE", `cannot write ${directory}: ${error.message}`, { cause: error });
}

async function writeTree(manifest: Manifest, root: string, options: TreeOptions): Promise<TreeResult> {
  const directories = manifest.entries.filter((entry) => entry.type === "directory");
  const links = manifest.entries.filter((entry) => entry.type === "hardlink");
  const others = manifest.entries.filter((entry) => entry.type === "file" || entry.type === "symlink");
  for (const entry of directories)
    await mkdir(join(root, entry.path), { mode: 0o700, recursive: entry.path === "/" });
  await forEachConcurrently(others, CONCURRENCY, (entry) => writeEntry(root, entry, options));
  for (const entry of links) await link(join(root, entry.target), join(root, entry.path));
  // Directories last and deepest first: until here the caller can write into all of them.
  for (const entry of directories.reverse()) await setAttributes(root, entry, options.owners);
  return {
    devicesSkipped: manifest.entries.length - directories.length - links.length - others.length,
    xattrsSkipped: manifest.entries.filter((entry) => entry.xattrs !== undefined).length,
  };
}

async function writeEntry(root: string, entry: ManifestEntry, options: TreeOptions): Promise<void> {
  options.signal?.throwIfAborted();
  const path = join(root, entry.path);
  if (entry.type === "symlink") await symlink(entry.target, path);
  if (entry.type === "file") await copyBlob(options.blobPath(entry.digest), path, entry);
  await setAttributes(root, entry, options.owners);
}

async function copyBlob(
  from: string,
  to: string,
  { digest, size }: { readonly digest: string; readonly size: number },
): Promise<void> {
  try {
    const { size: sizeBytes } = await stat(from);
    // Blobs are not synced to disk one by one, so a machine that lost power may have kept the name alone.
    if (sizeBytes !== size) {
      const message = `the blob ${digest} has ${sizeBytes} bytes instead of ${size}`;
      throw new KitError("E_IMAGE_BLOB_MISSING", message);
    }
    await copyFile(from, to, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
    throw new KitError("E_IMAGE_BLOB_MISSING", `the blob store has no ${digest}`, { cause: error });
  }
}

/** The owner first: changing it clears setuid bits. A link has no mode of its own. */
async function setAttributes(root: string, entry: ManifestEntry, owners: TreeOwners): Promise<void> {
  const path = join(root, entry.path);
  if (owners.kind !== "single") await lchown(path, hostId(entry.uid, owners), hostId(entry.gid, owners));
  if (entry.type !== "symlink")
    await chmod(path, owners.kind === "single" ? entry.mode & 0o1777 : entry.mode);
}

function hostId(id: number, owners: TreeOwners): number {
  if (owners.kind !== "shifted") return id;
  if (id < owners.count) return owners.base + id;
  throw new KitError(
    "E_IMAGE_TREE",
    `the image has a file of id ${id}; ids up to ${owners.count - 1} can be mapped`,
  );
}
