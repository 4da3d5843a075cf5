import { isErrno, KitError } from "../../core/errors.ts";
import { isRunning, type ProcessIdentity } from "../../core/process-identity.ts";
import { enclavePaths } from "../state/enclave-paths.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";
import { lockName } from "../state/name-lock.ts";
import { listNames, readRecord, removeEnclave } from "../state/record-store.ts";
import { correctLocked, inspectEnclave, isLive } from "./inspect.ts";
import { endNitroLeftover } from "./nitro-leftover.ts";
import { askStop, awaitGone, runnerOf } from "./runner-client.ts";

/** What the runner needs beside the time of the services. */
const RUNNER_MARGIN_MS = 5_000;
/** Longest ordered stop: the supervisor's own bound and init's after it. */
export const MAX_STOP_MS = 130_000;
/** A runner that does not answer on its own socket hangs, or is stopped; it gets this much of the benefit of the doubt. */
const DEAF_TIMEOUT_MS = 10_000;
const AT_ONCE = 4;

/** Stops in order and keeps the record. @returns the record afterwards. @throws E_HOST_NOT_FOUND, E_DEADLINE */
export async function stopEnclave(
  stateDir: string,
  name: string,
  timeoutMs?: number,
): Promise<EnclaveRecord> {
  const record = await inspectEnclave(stateDir, name);
  const identity = runnerOf(record);
  if (!isLive(record) || identity === undefined) return record;
  const isHeard = await askStop(stateDir, name, timeoutMs).then(
    () => true,
    () => false,
  );
  if (!isHeard) await signalRunner(identity, "SIGTERM");
  const longestMs = timeoutMs === undefined ? MAX_STOP_MS : timeoutMs + RUNNER_MARGIN_MS;
  await awaitEnd(identity, isHeard ? longestMs : Math.min(longestMs, DEAF_TIMEOUT_MS));
  return await inspectEnclave(stateDir, name);
}

/** Waits for a runner that was asked to stop, and kills it after that time. */
export async function awaitEnd(identity: ProcessIdentity, timeoutMs: number): Promise<void> {
  if (await awaitGone(identity, timeoutMs)) return;
  await signalRunner(identity, "SIGKILL"); // the launcher ends everything inside
  await awaitGone(identity, RUNNER_MARGIN_MS);
}

async function signalRunner(identity: ProcessIdentity, signal: NodeJS.Signals): Promise<void> {
  if (!(await isRunning(identity))) return;
  try {
    process.kill(identity.pid, signal);
  } catch (error) {
    if (!isErrno(error, "ESRCH")) throw error;
  }
}

/** Stops and removes. A damaged record is removed as well; an enclave that got the name meanwhile stays. */
async function removeEnclaveByName(stateDir: string, name: string): Promise<void> {
  try {
    await stopEnclave(stateDir, name);
  } catch (error) {
    const known = (await listNames(stateDir)).includes(name);
    if (!(error instanceof KitError) || !known) throw error;
  }
  await using _lock = await lockName(stateDir, name);
  const record = await readRecord(stateDir, name).catch(() => undefined);
  if (record !== undefined && isLive(await correctLocked(stateDir, record))) return;
  await endNitroLeftover(enclavePaths(stateDir, name).request);
  await removeEnclave(stateDir, name);
}

/**
 * Stops and removes enclaves, a few at a time; one that cannot be removed does not keep the others.
 * @param names all of them where undefined
 * @throws the first refusal, after all were tried.
 */
export async function removeEnclaves(
  stateDir: string,
  names: readonly string[] | undefined,
  onRemoved: (name: string) => void,
): Promise<void> {
  const pending = new Set(names ?? (await listNames(stateDir))).values();
  const refusals: unknown[] = [];
  const worker = async (): Promise<void> => {
    for (const name of pending) {
      await removeEnclaveByName(stateDir, name).then(
        () => onRemoved(name),
        (error: unknown) => refusals.push(error),
      );
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (refusals.length > 0) throw refusals[0];
}
