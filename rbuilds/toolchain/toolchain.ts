/**
 * Compiler and tools for everything in an image that is compiled: Debian packages of a lock, unpacked into a root of
 * their own. Nothing of the host's tools, libraries or configuration takes part.
 */
import { createHash } from "node:crypto";
import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";

import { isErrno } from "../../core/errors.ts";
import { resolvePackages } from "../apt.ts";
import { canonicalJson } from "../canonical-json.ts";
import { buildDebianBase } from "../debian-base.ts";
import type { OpenPackagesOptions } from "../debian-packages.ts";
import { FileTree } from "../file-tree.ts";
import type { LockedPackage } from "../locked-package.ts";
import { materialiseTree } from "../tree.ts";
import type { SandboxIds } from "./build-sandbox.ts";

/** What the kernel's build and ours call by name; their dependencies come with them. */
export const TOOLCHAIN_PACKAGES = [
  "bc",
  "binutils",
  "bison",
  "diffutils",
  "findutils",
  "flex",
  "gcc",
  "grep",
  "gzip",
  "libc6-dev",
  "libelf-dev",
  "make",
  "mawk",
  "perl-base",
  "sed",
  "tar",
  "xz-utils",
] as const;

/** Raised whenever the same packages give another root. */
const RECIPE_VERSION = 1;

/** @throws what resolvePackages throws */
export async function resolveToolchain(
  options: Parameters<typeof resolvePackages>[1],
): Promise<readonly LockedPackage[]> {
  return await resolvePackages(TOOLCHAIN_PACKAGES, { ...options, withBase: true });
}

export interface ToolchainOptions extends OpenPackagesOptions {
  readonly ids: SandboxIds;
}

export interface Toolchain {
  /** Root file system of the tools; read-only for whoever builds. */
  readonly root: string;
  /** Names the packages: what it builds is kept under keys that hold this. */
  readonly digest: string;
}

/** The root of these packages, from the cache where it was made before. @throws what openPackages throws, E_IMAGE_TREE */
export async function openToolchain(
  locked: readonly LockedPackage[],
  options: ToolchainOptions,
): Promise<Toolchain> {
  const digest = toolchainDigest(locked);
  const folder = join(options.cacheDir, "toolchains");
  const root = join(folder, `${digest}-${options.ids.key}`);
  if (await exists(root)) return { root, digest };
  await mkdir(folder, { recursive: true });
  const tree = new FileTree();
  await buildDebianBase(locked, { ...options, tree });
  await materialiseTree(tree.toManifest(), root, {
    owners: options.ids.owners,
    blobPath: options.blobs.path,
    signal: options.signal,
  });
  return { root, digest };
}

export function toolchainDigest(locked: readonly LockedPackage[]): string {
  const packages = locked.map(({ name, sha256 }) => [name, sha256]);
  return createHash("sha256")
    .update(canonicalJson({ version: RECIPE_VERSION, packages }))
    .digest("hex");
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
