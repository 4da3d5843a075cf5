/**
 * A program of Debian's on this machine without installing it: its packages are unpacked into the cache, and it is
 * started through its own loader with its own libraries, so that nothing of the machine but the kernel takes part.
 */
import { createHash } from "node:crypto";
import { mkdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";

import { isErrno, KitError } from "../core/errors.ts";
import { resolvePackages } from "./apt.ts";
import { openPackages, type OpenPackagesOptions } from "./debian-packages.ts";
import { FileTree } from "./file-tree.ts";
import { MULTIARCH } from "./finishers/ld-so-cache.ts";
import { readElfFile } from "./elf.ts";
import type { LockedPackage } from "./locked-package.ts";
import { materialiseTree } from "./tree.ts";

export interface DebianToolRequest {
  /** What brings the program. */
  readonly packages: readonly string[];
  /** Absolute path in the packages. */
  readonly program: string;
}

export interface DebianTool {
  /** Words of the command line that start the program. */
  readonly command: readonly [string, ...string[]];
  /** Folder in which its packages lie. */
  readonly root: string;
}

/** Raised whenever the same packages give another folder. */
const RECIPE_VERSION = 2;

/** @throws E_IMAGE_APT_*, E_IMAGE_PACKAGE_UNKNOWN, E_IMAGE_RUNTIME if the packages lack the program, E_DISK_FULL */
export async function openDebianTool(
  { packages, program }: DebianToolRequest,
  options: OpenPackagesOptions,
): Promise<DebianTool> {
  const locked = await resolvePackages(packages, { ...options, withBase: false });
  const root = join(options.cacheDir, "tools", toolKey(locked));
  if (!(await exists(root))) await unpackTool(locked, root, options);
  const path = join(root, program);
  const interpreter = (await readElfFile(path))?.interpreter;
  if (interpreter === undefined)
    throw new KitError("E_IMAGE_RUNTIME", `${packages.join(", ")}: ${program} is no dynamic program`);
  const libraries = join(root, "usr", "lib", MULTIARCH[options.architecture]);
  // Where Debian keeps the loader; the name in the program leads there through absolute links.
  const loader = join(libraries, basename(interpreter));
  return { command: [loader, "--library-path", libraries, path], root };
}

function toolKey(locked: readonly LockedPackage[]): string {
  const hash = createHash("sha256").update(`recipe ${RECIPE_VERSION}\n`);
  for (const { name, sha256 } of locked) hash.update(`${name} ${sha256}\n`);
  return hash.digest("hex");
}

async function unpackTool(
  locked: readonly LockedPackage[],
  root: string,
  options: OpenPackagesOptions,
): Promise<void> {
  const packages = await openPackages(locked, options);
  const tree = new FileTree();
  for (const { entries } of packages) {
    for (const entry of entries)
      if (entry.type !== "directory" || tree.get(entry.path) === undefined) tree.set(entry);
  }
  await mkdir(join(options.cacheDir, "tools"), { recursive: true });
  await materialiseTree(tree.toManifest(), root, {
    owners: { kind: "single" },
    blobPath: options.blobs.path,
    signal: options.signal,
  });
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    (error: unknown) => {
      if (isErrno(error, "ENOENT")) return false;
      throw error;
    },
  );
}
