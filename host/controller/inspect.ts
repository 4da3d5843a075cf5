/** What is known of the enclaves, corrected by what is true: a record whose runner died tells so, and its rest is removed. */
import { readdir, readFile, rm } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";

import { KitError } from "../../core/errors.ts";
import { nearestName } from "../../core/nearest-name.ts";
import { isRunning } from "../../core/process-identity.ts";
import { enclavePaths } from "../state/enclave-paths.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";
import { lockName } from "../state/name-lock.ts";
import { listNames, readRecord, writeRecord } from "../state/record-store.ts";
import { runnerOf } from "./runner-client.ts";

/** The launcher kills what is inside as soon as its runner is gone; this long is waited for the last of it. */
const REMAINS_TIMEOUT_MS = 1_500;
const LIVE_STATES = ["starting", "running", "unhealthy", "stopping"];

export function isLive(record: EnclaveRecord): boolean {
  return LIVE_STATES.includes(record.state);
}

/** @returns undefined if there is no enclave of that name. @throws E_HOST_STATE_DAMAGED */
export async function findEnclave(stateDir: string, name: string): Promise<EnclaveRecord | undefined> {
  const record = await readRecord(stateDir, name);
  return record === undefined ? undefined : await corrected(stateDir, record);
}

/** @throws E_HOST_NOT_FOUND with the nearest name, E_HOST_STATE_DAMAGED */
export async function inspectEnclave(stateDir: string, name: string): Promise<EnclaveRecord> {
  const record = await findEnclave(stateDir, name);
  if (record !== undefined) return record;
  const names = await listNames(stateDir);
  if (names.includes(name))
    throw new KitError("E_HOST_NOT_FOUND", `enclave ${name} is only just being started`);
  const near = nearestName(name, names);
  const suggestion = near === undefined ? "" : `; did you mean ${JSON.stringify(near)}?`;
  throw new KitError("E_HOST_NOT_FOUND", `there is no enclave ${JSON.stringify(name)}${suggestion}`);
}

export interface Listing {
  readonly records: readonly EnclaveRecord[];
  /** Refusals of records that cannot be read. */
  readonly damaged: readonly KitError[];
}

/** Every enclave, by name; a damaged record does not hide the others. */
export async function listEnclaves(stateDir: string): Promise<Listing> {
  const records: EnclaveRecord[] = [];
  const damaged: KitError[] = [];
  for (const name of await listNames(stateDir)) {
    try {
      const record = await findEnclave(stateDir, name);
      if (record !== undefined) records.push(record);
    } catch (error) {
      if (!(error instanceof KitError)) throw error;
      damaged.push(error);
    }
  }
  return { records, damaged };
}

async function corrected(stateDir: string, record: EnclaveRecord): Promise<EnclaveRecord> {
  if (await isTrue(record)) return record;
  await using _lock = await lockName(stateDir, record.name);
  // Meanwhile the runner may have written its last record, or another command given the name to a new enclave.
  const newest = (await readRecord(stateDir, record.name)) ?? record;
  return await correctLocked(stateDir, newest);
}

/** Only an enclave that is said to live can be said to wrongly. */
async function isTrue(record: EnclaveRecord): Promise<boolean> {
  if (!isLive(record)) return true;
  const identity = runnerOf(record);
  return identity !== undefined && (await isRunning(identity));
}

/** The record as it is in truth; the caller holds the lock of its name. */
export async function correctLocked(stateDir: string, newest: EnclaveRecord): Promise<EnclaveRecord> {
  if (await isTrue(newest)) return newest;
  const identity = runnerOf(newest);
  const reason =
    identity === undefined ? "its runner never started" : `runner died (process ${identity.pid} is gone)`;
  await removeRemains(stateDir, newest.name);
  const services = newest.services.map((service) => ({
    ...service,
    state: "stopped" as const,
    health: "none" as const,
    pid: null,
  }));
  const failed: EnclaveRecord = {
    ...newest,
    services,
    state: "failed",
    reason,
    runner: { pid: null, startTicks: null },
  };
  await writeRecord(stateDir, failed);
  return failed;
}

/** Sockets, mount point and kernel of an enclave whose runner is gone, once its processes are. */
async function removeRemains(stateDir: string, name: string): Promise<void> {
  const paths = enclavePaths(stateDir, name);
  const deadline = Date.now() + REMAINS_TIMEOUT_MS;
  while ((await hasProcesses(paths.vsock)) && Date.now() < deadline) await delay(10);
  await rm(paths.vsock, { recursive: true, force: true });
  await rm(paths.boot, { recursive: true, force: true });
  await rm(paths.runnerSocket, { force: true });
}

/** True while a launcher or QEMU names the directory on its command line. */
async function hasProcesses(vsockDirectory: string): Promise<boolean> {
  for (const entry of await readdir("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const words = (await readFile(`/proc/${entry}/cmdline`, "utf8").catch(() => "")).split("\0");
    if (words.some((word) => word === vsockDirectory || word.includes(`${vsockDirectory}/`))) return true;
  }
  return false;
}
