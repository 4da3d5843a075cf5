/**
 * Kills every process in a cgroup. Version 2 has a file for that since Linux 5.14. Elsewhere the list of processes is
 * killed until it is empty; the freezer of version 1 holds them still meanwhile, so that none forks away.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { isErrno, KitError } from "../../core/errors.ts";
import { fileError, parsed, readControl, writeControl } from "./control-file.ts";
import { parseIds } from "./control-format.ts";

const DEADLINE_MS = 5_000;
const FREEZE_MS = 500;
const FIRST_WAIT_MS = 1;
const LONGEST_WAIT_MS = 20;

export interface KillTarget {
  /** Lists all processes; the first directory that a process joins. */
  readonly members: string;
  /** Directory of the freezer (version 1). */
  readonly freezer: string | undefined;
}

/**
 * Resolves when no process is left.
 * @throws E_CGROUP_KILL after 5 s, with the ids of those that are left
 */
export async function killCgroup(target: KillTarget, deadlineMs: number = DEADLINE_MS): Promise<void> {
  const procs = join(target.members, "cgroup.procs");
  if ((await readIds(procs)).length === 0) return;
  if (!(await killAtOnce(target.members))) await killFrozen(target, procs);
  const isEmpty = await waitUntil(deadlineMs, async () => {
    const ids = await readIds(procs);
    for (const id of ids) killOne(id);
    return ids.length === 0;
  });
  if (isEmpty) return;
  const left = (await readIds(procs)).slice(0, 10);
  const message = `processes ${left.join(", ")} in ${target.members} do not end`;
  throw new KitError("E_CGROUP_KILL", message, { details: { pids: left } });
}

/** @returns an empty list also where there is no cgroup (any more). @throws E_CGROUP_FILE, E_CGROUP_FORMAT */
export async function readIds(path: string): Promise<number[]> {
  const text = await readControl(path);
  return text === undefined ? [] : parsed(parseIds(text), path, text);
}

/** False where the kernel cannot. */
async function killAtOnce(directory: string): Promise<boolean> {
  const path = join(directory, "cgroup.kill");
  try {
    await writeControl(path, "1");
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw fileError(path, error);
  }
}

async function killFrozen({ freezer }: KillTarget, procs: string): Promise<void> {
  if (freezer === undefined) return;
  const state = join(freezer, "freezer.state");
  try {
    await writeControl(state, "FROZEN");
    // What does not freeze in time is killed while it runs.
    await waitUntil(FREEZE_MS, async () => (await readControl(state)) === "FROZEN\n");
    for (const id of await readIds(procs)) killOne(id);
  } catch (error) {
    throw fileError(state, error);
  } finally {
    // If it stays frozen nothing in it ends, and that is told when the deadline has passed.
    await writeControl(state, "THAWED").catch(() => undefined);
  }
}

/** Neither init nor the supervisor is ever in the cgroup of a service; a wrong list must not end the enclave. */
function killOne(id: number): void {
  if (id === 1 || id === process.pid) return;
  try {
    process.kill(id, "SIGKILL");
  } catch (error) {
    if (!isErrno(error, "ESRCH")) throw error;
  }
}

/** @returns whether the condition came true in time. */
export async function waitUntil(deadlineMs: number, condition: () => Promise<boolean>): Promise<boolean> {
  const end = performance.now() + deadlineMs;
  for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS)) {
    if (await condition()) return true;
    if (performance.now() > end) return false;
    await sleep(waitMs);
  }
}
