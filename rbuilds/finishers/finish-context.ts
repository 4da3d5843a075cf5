import type { BlobStore } from "../blob-store.ts";
import { type FileTree, joinPath, parentOf } from "../file-tree.ts";
import type { DebianArchitecture } from "../locked-package.ts";
import type { UnpackedPackage } from "../unpacked-package.ts";
import type { ManifestEntry } from "../../wire/manifest.ts";

/** What every finisher works on. */
export interface FinishContext {
  readonly tree: FileTree;
  readonly blobs: BlobStore;
  readonly architecture: DebianArchitecture;
  /** By name, ascending. */
  readonly packages: readonly UnpackedPackage[];
  /** Takes one sentence for the operator. */
  readonly warn: (sentence: string) => void;
}

/** Does one part of what maintainer scripts and triggers do on a Debian machine. */
export type Finisher = (context: FinishContext) => Promise<void>;

export interface Attributes {
  readonly mode: number;
  readonly uid?: number;
  readonly gid?: number;
}

/** Longest text that a finisher reads. */
const MAX_TEXT_BYTES = 8 * 1024 * 1024;

/** What `path` leads to, links followed. */
export function entryAt(tree: FileTree, path: string): ManifestEntry | undefined {
  return tree.get(tree.resolve(path));
}

/** Makes `path` and its parents (0755, root) where nothing is there. What is there keeps its owner and mode. */
export function ensureDirectory(
  tree: FileTree,
  path: string,
  attributes: Attributes = { mode: 0o755 },
): void {
  const resolved = tree.resolve(path);
  if (tree.get(resolved) !== undefined) return;
  const { mode, uid = 0, gid = 0 } = attributes;
  tree.set({ path: resolved, type: "directory", mode, uid, gid });
}

/** Writes a file, replacing what has its name. Parents are made. */
export async function writeText(
  context: FinishContext,
  path: string,
  text: string,
  attributes: Attributes = { mode: 0o644 },
): Promise<void> {
  const { digest, size } = await context.blobs.put(Buffer.from(text));
  const { mode, uid = 0, gid = 0 } = attributes;
  context.tree.set({ path: placeOf(context.tree, path), type: "file", mode, uid, gid, digest, size });
}

/** Makes a symbolic link, replacing what has its name unless that is a directory. */
export function writeLink(tree: FileTree, path: string, target: string): void {
  const resolved = placeOf(tree, path);
  if (tree.get(resolved)?.type === "directory") return;
  tree.set({ path: resolved, type: "symlink", mode: 0o777, uid: 0, gid: 0, target });
}

/** The path with the links of its folder followed: where a new entry goes. */
function placeOf(tree: FileTree, path: string): string {
  return joinPath(tree.resolve(parentOf(path)), path.slice(path.lastIndexOf("/") + 1));
}

/** The content of the regular file that `path` leads to; undefined if there is none or it is larger than 8 MiB. */
export async function readText(context: FinishContext, path: string): Promise<string | undefined> {
  const entry = regularFile(context.tree, path);
  if (entry === undefined || entry.size > MAX_TEXT_BYTES) return undefined;
  return Buffer.from(await context.blobs.read(entry.digest, MAX_TEXT_BYTES)).toString("utf8");
}

/** The regular file that `path` leads to, through symbolic and hard links. */
export function regularFile(tree: FileTree, path: string): (ManifestEntry & { type: "file" }) | undefined {
  const entry = entryAt(tree, path);
  const target = entry?.type === "hardlink" ? tree.get(entry.target) : entry;
  return target?.type === "file" ? target : undefined;
}
