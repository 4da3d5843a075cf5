/**
 * What killed builds left behind: temporary files and folders of the toolkit, known by the forms of their names, that
 * nobody has written to for a day. Nothing reads them, since what is finished has another name; they only take room.
 */
import { lstat, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";

import { isErrno } from "../core/errors.ts";

/** No step of a build takes as long: compilers have half an hour. */
const STALE_MS = 24 * 3_600_000;

/** Of writeFileAtomic, compressed segments and unpacked trees. */
const REPLACEMENT = /\.[0-9a-f]{12}\.tmp$/;

/** By folder of the cache. */
const CACHE_NAMES: Readonly<Record<string, RegExp>> = {
  "": /^eif-[A-Za-z0-9]{6}$/,
  "blobs/sha256": /^\.[0-9a-f]{16}\.tmp$/,
  compiled: /^work-[A-Za-z0-9]{6}$|\.[0-9a-f]{12}\.tmp$/,
  debs: REPLACEMENT,
  images: REPLACEMENT,
  "imports-1": REPLACEMENT,
  ramdisks: REPLACEMENT,
  toolchains: REPLACEMENT,
  trees: REPLACEMENT,
  "unpacked-1": REPLACEMENT,
};

/** Beside an image: itself, and its provenance. */
const OUTPUT_NAME = /^\.[0-9a-f]{16}\.eif\.tmp$|\.provenance\.json\.[0-9a-f]{12}\.tmp$/;

export interface BuildFolders {
  readonly cacheDir: string;
  /** Where the image goes. */
  readonly outputDir: string;
}

/** What cannot be removed stays: it is in nobody's way. @returns paths of what was removed */
export async function removeStaleFiles({ cacheDir, outputDir }: BuildFolders): Promise<string[]> {
  const now = await machineTimeMs();
  const places = Object.entries(CACHE_NAMES).map(([folder, form]) => [join(cacheDir, folder), form] as const);
  const removed: string[] = [];
  for (const [folder, form] of [...places, [outputDir, OUTPUT_NAME] as const]) {
    for (const name of await namesIn(folder)) {
      const path = join(folder, name);
      if (form.test(name) && now - (await lastWriteMs(path, now)) > STALE_MS && (await remove(path)))
        removed.push(path);
    }
  }
  return removed;
}

/**
 * About when this process began, as file systems see it: the clock that a process is told may be years ahead of theirs,
 * and then everything of other builds would seem old.
 */
async function machineTimeMs(): Promise<number> {
  return (await stat(`/proc/${process.pid}`)).mtimeMs;
}

/** Of a file, or of a folder and what is directly in it; `otherwise` if it vanished meanwhile. */
async function lastWriteMs(path: string, otherwise: number): Promise<number> {
  const info = await lstat(path).catch(() => undefined);
  if (info?.isDirectory() !== true) return info?.mtimeMs ?? otherwise;
  const times = [info.mtimeMs];
  for (const name of await namesIn(path))
    times.push((await lstat(join(path, name)).catch(() => undefined))?.mtimeMs ?? otherwise);
  return Math.max(...times);
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isErrno(error)) return [];
    throw error;
  }
}

async function remove(path: string): Promise<boolean> {
  try {
    await rm(path, { recursive: true, force: true });
    return true;
  } catch (error) {
    if (isErrno(error)) return false;
    throw error;
  }
}
