/**
 * The root file system of `debian: [packages]`: the files of the locked packages, and what their maintainer scripts
 * would do, done by a fixed list of finishers. No script of a package ever runs.
 */
import type { ManifestEntry } from "../wire/manifest.ts";
import { openPackages, type OpenPackagesOptions } from "./debian-packages.ts";
import { type FileTree, joinPath, parentOf } from "./file-tree.ts";
import { finishAccounts } from "./finishers/accounts.ts";
import { finishAlternatives } from "./finishers/alternatives.ts";
import { finishBaseFiles } from "./finishers/base-files.ts";
import { finishCaBundle } from "./finishers/ca-bundle.ts";
import { finishDpkgStatus } from "./finishers/dpkg-status.ts";
import type { FinishContext, Finisher } from "./finishers/finish-context.ts";
import { finishLdSoCache } from "./finishers/ld-so-cache.ts";
import { finishMaintainerPaths } from "./finishers/maintainer-paths.ts";
import { finishUnfinished } from "./finishers/unfinished.ts";
import { finishUsrMerge } from "./finishers/usr-merge.ts";
import type { LockedPackage } from "./locked-package.ts";
import type { UnpackedPackage } from "./unpacked-package.ts";

/** In this order: the links come before what is looked up through them, accounts before owners, the loader's cache after all files. */
const FINISHERS: readonly Finisher[] = [
  finishUsrMerge,
  finishAccounts,
  finishBaseFiles,
  finishAlternatives,
  finishMaintainerPaths,
  finishCaBundle,
  finishDpkgStatus,
  finishLdSoCache,
  finishUnfinished,
];

export interface DebianBaseOptions extends OpenPackagesOptions {
  /** Filled by the build; empty before. */
  readonly tree: FileTree;
}

export interface DebianBase {
  /** What the operator should know, one sentence each. */
  readonly warnings: readonly string[];
}

/**
 * Builds the base into `options.tree`. The same lock gives the same tree, whatever the caches hold.
 * @throws what openPackages throws.
 */
export async function buildDebianBase(
  locked: readonly LockedPackage[],
  options: DebianBaseOptions,
): Promise<DebianBase> {
  const packages = await openPackages(locked, options);
  const warnings: string[] = [];
  const { tree, blobs, architecture } = options;
  const context: FinishContext = { tree, blobs, architecture, packages, warn: (text) => warnings.push(text) };
  placePackages(context);
  for (const finish of FINISHERS) {
    options.signal?.throwIfAborted();
    await finish(context);
  }
  return { warnings };
}

/** base-files first, as on a real system: the directories that all share are its own. */
function placePackages(context: FinishContext): void {
  const isBase = (each: UnpackedPackage): boolean => each.name === "base-files";
  const ordered = [...context.packages.filter(isBase), ...context.packages.filter((each) => !isBase(each))];
  const owners = new Map<string, string>();
  for (const each of ordered) {
    for (const entry of each.entries) placeEntry(context, each, entry, owners);
  }
}

/** A directory stays as the first package has it; of two different files the later one stays, with a warning. */
function placeEntry(
  context: FinishContext,
  each: UnpackedPackage,
  entry: ManifestEntry,
  owners: Map<string, string>,
): void {
  const placed = throughLinks(context.tree, entry);
  const present = context.tree.get(placed.path);
  if (present !== undefined && keepsDirectory(context.tree, present, placed)) return;
  const owner = owners.get(placed.path);
  if (present !== undefined && owner !== undefined && !isSameFile(present, placed)) {
    context.warn(`${owner} and ${each.name} both have ${placed.path}; the one of ${each.name} is used`);
  }
  owners.set(placed.path, each.name);
  context.tree.set(placed);
}

/** A package may have files below a name that is another package's link to a directory. */
function throughLinks(tree: FileTree, entry: ManifestEntry): ManifestEntry {
  const path = realPath(tree, entry.path);
  return entry.type === "hardlink"
    ? { ...entry, path, target: realPath(tree, entry.target) }
    : { ...entry, path };
}

function realPath(tree: FileTree, path: string): string {
  return joinPath(tree.resolve(parentOf(path)), path.slice(path.lastIndexOf("/") + 1));
}

/** As dpkg: a directory, or a link to one, stays where another package has a directory or a link. */
function keepsDirectory(tree: FileTree, present: ManifestEntry, entry: ManifestEntry): boolean {
  if (present.type === "directory") return entry.type === "directory" || entry.type === "symlink";
  const leadsToDirectory = tree.get(tree.resolve(present.path))?.type === "directory";
  return present.type === "symlink" && entry.type === "directory" && leadsToDirectory;
}

function isSameFile(a: ManifestEntry, b: ManifestEntry): boolean {
  if (a.type === "file" && b.type === "file") return a.digest === b.digest;
  return "target" in a && "target" in b && a.type === b.type && a.target === b.target;
}
