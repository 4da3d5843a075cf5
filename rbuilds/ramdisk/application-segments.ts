/**
 * The application's ramdisk in parts that change for different reasons, so that each is compressed only when it
 * changes: the base, the runtime, and everything else. The kernel unpacks them in this order.
 *
 * - Every entry is in one part. A directory is in the first part that has something below it, as it is at the end.
 * - All names of a file are in the last part that any of them belongs to: a trailer makes the kernel forget inodes.
 */
import { isDeepStrictEqual } from "node:util";

import { KitError } from "../../core/errors.ts";
import type { Manifest, ManifestEntry } from "../../wire/manifest.ts";
import { RUNTIME } from "../../wire/runtime-layout.ts";
import { MAX_TREE_ENTRIES, parentOf } from "../file-tree.ts";
import type { FileEntry, Segment } from "./segment.ts";

/** The kernel's own "/" has the boot ramdisk's init, which nothing below this can replace. */
export const APPLICATION_PREFIX = "rootfs";

export const SEGMENT_NAMES = ["base", "runtime", "application"] as const;
export type SegmentName = (typeof SEGMENT_NAMES)[number];

const BASE = 0;
const RUNTIME_PART = 1;
const APPLICATION = 2;

/** Parts without a single entry are left out. @throws E_IMAGE_TOO_MANY_FILES */
export function splitApplication(
  manifest: Manifest,
  baseManifest: Manifest | undefined,
): { readonly name: SegmentName; readonly segment: Segment }[] {
  if (manifest.entries.length > MAX_TREE_ENTRIES) {
    const message = `an image has ${manifest.entries.length} files; at most ${MAX_TREE_ENTRIES} are possible`;
    throw new KitError("E_IMAGE_TOO_MANY_FILES", message);
  }
  const linkedFiles = findLinkedFiles(manifest);
  // It is the boot ramdisk's own /init and never runs from here.
  const entries = manifest.entries.filter(({ path, type }) => path !== RUNTIME.init || type === "directory");
  const parts = assignParts(entries, baseManifest, linkedFiles);
  return SEGMENT_NAMES.map((name, part) => {
    const own = entries.filter((_, index) => parts[index] === part);
    return { name, segment: { prefix: APPLICATION_PREFIX, entries: own, linkedFiles } };
  }).filter(({ segment }) => segment.entries.length > 0);
}

function findLinkedFiles(manifest: Manifest): Map<string, FileEntry> {
  const targets = new Set(
    manifest.entries.flatMap((entry) => (entry.type === "hardlink" ? [entry.target] : [])),
  );
  const files = manifest.entries.flatMap((entry) =>
    entry.type === "file" && targets.has(entry.path) ? [[entry.path, entry] as const] : [],
  );
  return new Map(files);
}

/** The part of each entry. */
function assignParts(
  entries: readonly ManifestEntry[],
  baseManifest: Manifest | undefined,
  linkedFiles: ReadonlyMap<string, FileEntry>,
): Uint8Array {
  const base = new Map((baseManifest?.entries ?? []).map((entry) => [entry.path, entry]));
  const parts = Uint8Array.from(entries, (entry) => partOf(entry, base));
  joinNames(entries, parts, linkedFiles);
  placeDirectories(entries, parts);
  return parts;
}

function partOf(entry: ManifestEntry, base: ReadonlyMap<string, ManifestEntry>): number {
  const { path } = entry;
  if (path === RUNTIME.directory || path.startsWith(`${RUNTIME.directory}/`)) {
    // These differ from image to image, the rest only from release to release.
    return path === RUNTIME.config || path === RUNTIME.supervisorArgv ? APPLICATION : RUNTIME_PART;
  }
  return isDeepStrictEqual(base.get(path), entry) ? BASE : APPLICATION;
}

function joinNames(
  entries: readonly ManifestEntry[],
  parts: Uint8Array,
  linkedFiles: ReadonlyMap<string, FileEntry>,
): void {
  const lastParts = new Map<string, number>();
  const fileOf = (entry: ManifestEntry): string => (entry.type === "hardlink" ? entry.target : entry.path);
  for (const [index, entry] of entries.entries()) {
    const path = fileOf(entry);
    if (linkedFiles.has(path))
      lastParts.set(path, Math.max(lastParts.get(path) ?? BASE, parts[index] ?? BASE));
  }
  for (const [index, entry] of entries.entries())
    parts[index] = lastParts.get(fileOf(entry)) ?? parts[index] ?? BASE;
}

/** Children come after their parents, so backwards each directory is placed before it is asked for its own parent. */
function placeDirectories(entries: readonly ManifestEntry[], parts: Uint8Array): void {
  const needed = new Map<string, number>();
  for (let index = entries.length - 1; index >= 0; index -= 1) {
    const entry = entries[index];
    if (entry === undefined) continue;
    const part = Math.min(parts[index] ?? APPLICATION, needed.get(entry.path) ?? APPLICATION);
    parts[index] = part;
    const parent = parentOf(entry.path);
    needed.set(parent, Math.min(part, needed.get(parent) ?? APPLICATION));
  }
}
