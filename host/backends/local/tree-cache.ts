/**
 * Trees of images, shared by enclaves, each named by image and id map. A runner that uses a tree leaves a lease beside
 * it, named by its process; trees that nobody leases and that were used longest ago go when new ones come.
 */
import { readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import { isErrno } from "../../../core/errors.ts";
import { identifyProcess, isRunning } from "../../../core/process-identity.ts";

/** Trees kept beside those in use. */
const KEPT_TREES = 6;
const LEASE = /^(.+)\.lease-(\d+)-(\d+)$/;

/** True if the tree exists; marks it as used now. */
export async function touchTree(tree: string): Promise<boolean> {
  try {
    await stat(tree);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
  const now = new Date();
  await utimes(tree, now, now).catch((error: unknown) => {
    if (!isErrno(error, "EPERM")) throw error; // the tree belongs to a range of ids; its first use counts then
  });
  return true;
}

/** Keeps `tree` from being removed while this process lives. */
export async function leaseTree(tree: string, pid: number): Promise<AsyncDisposable> {
  const identity = await identifyProcess(pid);
  const path = `${tree}.lease-${pid}-${identity?.startTicks ?? 0}`;
  await writeFile(path, "");
  return { [Symbol.asyncDispose]: async () => await rm(path, { force: true }) };
}

/** Half-written and half-removed trees of commands that were killed: nobody works on one for this long. */
const STALE_MS = 3_600_000;

/** Trees of the folder that end in `suffix` and can go, oldest use last kept. Leases of the dead are removed. */
export async function findOldTrees(folder: string, suffix: string): Promise<string[]> {
  const names = await readdir(folder);
  const leased = await liveLeases(folder, names);
  const stale = await findStale(folder, names);
  const free = names.filter((name) => name.endsWith(suffix) && !name.startsWith(".") && !leased.has(name));
  const old = (await datedNames(folder, free)).slice(KEPT_TREES);
  return [...stale, ...old.map(({ name }) => name)].map((name) => join(folder, name));
}

async function findStale(folder: string, names: readonly string[]): Promise<string[]> {
  const hidden = await datedNames(
    folder,
    names.filter((name) => name.startsWith(".")),
  );
  return hidden.filter(({ usedMs }) => Date.now() - usedMs > STALE_MS).map(({ name }) => name);
}

/** The latest first; what another command removes meanwhile is left out. */
async function datedNames(
  folder: string,
  names: readonly string[],
): Promise<{ readonly name: string; readonly usedMs: number }[]> {
  const dated = names.map(async (name) => {
    try {
      return [{ name, usedMs: (await stat(join(folder, name))).mtimeMs }];
    } catch (error) {
      if (isErrno(error, "ENOENT")) return [];
      throw error;
    }
  });
  return (await Promise.all(dated)).flat().sort((a, b) => b.usedMs - a.usedMs);
}

async function liveLeases(folder: string, names: readonly string[]): Promise<Set<string>> {
  const live = new Set<string>();
  for (const name of names) {
    const [, tree, pid, startTicks] = LEASE.exec(name) ?? [];
    if (tree === undefined) continue;
    if (await isRunning({ pid: Number(pid), startTicks: Number(startTicks) })) live.add(tree);
    else await rm(join(folder, name), { force: true });
  }
  return live;
}

/** A name beside the tree under which it is no longer found, for removal in peace. */
export function doomedName(tree: string): string {
  return join(dirname(tree), `.${basename(tree)}.${process.pid}.old`);
}
