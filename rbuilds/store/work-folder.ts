/**
 * Folders for what a process is busy with. Their names hold the process, so that what a killed one left is known to be
 * abandoned and the next writer removes it.
 */
import { randomBytes } from "node:crypto";
import { lstat, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";

import { isErrno } from "../../core/errors.ts";
import { identifyProcess, isRunning } from "../../core/process-identity.ts";
import type { StoreLayout } from "./store-layout.ts";
import { storeStep } from "./store-refusals.ts";

const NAME = /^([1-9][0-9]{0,9})-([0-9]{1,16})-[0-9a-f]{16}$/;

export interface WorkFolder extends AsyncDisposable {
  readonly path: (name: string) => string;
}

/** Removes what dead processes left, then makes a folder that is removed when disposed. @throws E_DISK_FULL, E_STORE_ACCESS */
export async function openWorkFolder(layout: StoreLayout): Promise<WorkFolder> {
  return await storeStep(layout.directory, async () => {
    for (const place of [layout.directory, layout.images, layout.tags, layout.temporary])
      await mkdir(place, { recursive: true, mode: 0o700 });
    await removeAbandoned(layout);
    const self = await identifyProcess(process.pid);
    const name = `${process.pid}-${self?.startTicks ?? 0}-${randomBytes(8).toString("hex")}`;
    const directory = join(layout.temporary, name);
    await mkdir(directory, { mode: 0o700 });
    return {
      path: (file) => join(directory, file),
      [Symbol.asyncDispose]: async () => await rm(directory, { recursive: true, force: true }),
    };
  });
}

export interface Abandoned {
  readonly count: number;
  readonly freedBytes: number;
}

export async function removeAbandoned(layout: StoreLayout): Promise<Abandoned> {
  let count = 0;
  let freedBytes = 0;
  // Where this process cannot see itself it cannot see others either, and would take them for dead.
  if ((await identifyProcess(process.pid)) === undefined) return { count, freedBytes };
  for (const name of await namesIn(layout.temporary)) {
    if (!(await isAbandoned(name))) continue;
    const directory = join(layout.temporary, name);
    freedBytes += await sizeOfTree(directory);
    await rm(directory, { recursive: true, force: true });
    count += 1;
  }
  return { count, freedBytes };
}

/** What has no name of ours is not ours. */
async function isAbandoned(name: string): Promise<boolean> {
  const [, pid, startTicks] = NAME.exec(name) ?? [];
  if (pid === undefined) return false;
  return !(await isRunning({ pid: Number(pid), startTicks: Number(startTicks) }));
}

/** Sorted; none where there is no such directory. */
export async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).sort();
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR")) return [];
    throw error;
  }
}

/** Bytes of the files in it; what vanishes meanwhile counts nothing. */
export async function sizeOfTree(directory: string): Promise<number> {
  let sizeBytes = 0;
  for (const name of await namesIn(directory)) {
    const path = join(directory, name);
    const info = await lstat(path).catch(() => undefined);
    if (info?.isFile() === true) sizeBytes += info.size;
    if (info?.isDirectory() === true) sizeBytes += await sizeOfTree(path);
  }
  return sizeBytes;
}
