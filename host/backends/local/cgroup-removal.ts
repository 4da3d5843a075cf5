/** Removes cgroups of enclaves: with what the enclave made below, once its processes are gone. */
import { readdir, readFile, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { isErrno, KitError } from "../../../core/errors.ts";

/** A process that was killed is counted until the kernel has cleared it up. */
const DEADLINE_MS = 5_000;
const FIRST_WAIT_MS = 1;
const LONGEST_WAIT_MS = 50;
/** Far more than an enclave has services. */
const MAX_DIRECTORIES = 4_096;
const SHOWN_PIDS = 10;

/** Deepest first. @throws E_CGROUP_BUSY after 5 s, naming what is left */
export async function removeCgroupTree(directory: string, deadlineMs = DEADLINE_MS): Promise<void> {
  const end = performance.now() + deadlineMs;
  for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS)) {
    const busy = await tryRemoveTree(directory);
    if (busy === undefined) return;
    if (performance.now() > end) throw await describeBusy(busy);
    await sleep(waitMs);
  }
}

/**
 * Removes what runners left behind that were killed. Theirs are those of dead processes, by the id in the name; what
 * cannot be removed is left for the next time.
 */
export async function removeStaleCgroups(parent: string, prefix: string): Promise<void> {
  for (const name of await listDirectories(parent)) {
    const owner = name.startsWith(prefix) ? /-([0-9]{1,10})-[0-9a-f]{8}$/.exec(name)?.[1] : undefined;
    if (owner === undefined || isAlive(Number(owner))) continue;
    const directory = join(parent, name);
    if ((await readPids(directory)).length === 0) await tryRemoveTree(directory);
  }
}

/** @returns a directory that cannot be removed yet; undefined once all are gone */
async function tryRemoveTree(directory: string): Promise<string | undefined> {
  let busy: string | undefined;
  for (const each of (await listTree(directory)).reverse()) {
    try {
      await rmdir(each);
    } catch (error) {
      if (!isErrno(error)) throw error;
      if (error.code !== "ENOENT") busy ??= each;
    }
  }
  return busy;
}

/** Parents before children. */
async function listTree(directory: string): Promise<string[]> {
  const found = [directory];
  for (let index = 0; index < found.length && found.length < MAX_DIRECTORIES; index++) {
    const parent = found[index] ?? directory;
    for (const name of await listDirectories(parent)) found.push(join(parent, name));
  }
  return found;
}

async function listDirectories(parent: string): Promise<string[]> {
  try {
    const entries = await readdir(parent, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch (error) {
    if (isErrno(error)) return [];
    throw error;
  }
}

async function readPids(directory: string): Promise<string[]> {
  const text = await readFile(join(directory, "cgroup.procs"), "latin1").catch(() => "");
  return text.split("\n").filter((line) => line !== "");
}

async function describeBusy(directory: string): Promise<KitError> {
  const pids = (await readPids(directory)).slice(0, SHOWN_PIDS);
  const holder = pids.length > 0 ? `processes ${pids.join(", ")}` : "other cgroups";
  return new KitError("E_CGROUP_BUSY", `${directory} still holds ${holder}`, {
    details: { directory, pids },
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return !isErrno(error, "ESRCH");
  }
}
