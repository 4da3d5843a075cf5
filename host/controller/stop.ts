import { isErrno, KitError } from "../../core/errors.ts";
import { isRunning, type ProcessIdentity } from "../process-identity.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";
import { listNames, readRecord, removeEnclave } from "../state/record-store.ts";
import { inspectEnclave, isLive } from "./inspect.ts";
import { askStop, awaitGone, runnerOf } from "./runner-client.ts";

/** What the runner needs beside the time of the services. */
const RUNNER_MARGIN_MS = 5_000;
/** Longest ordered stop: the supervisor's own bound and init's after it. */
const MAX_STOP_MS = 130_000;
const AT_ONCE = 4;

/** Stops in order and keeps the record. @returns the record afterwards. @throws E_HOST_NOT_FOUND, E_DEADLINE */
export async function stopEnclave(
  stateDir: string,
  name: string,
  timeoutMs = MAX_STOP_MS,
): Promise<EnclaveRecord> {
  const record = await inspectEnclave(stateDir, name);
  const identity = runnerOf(record);
  if (!isLive(record) || identity === undefined) return record;
  await askStop(stateDir, name);
  if (!(await awaitGone(identity, timeoutMs))) {
    signalProcess(identity.pid, "SIGKILL"); // the launcher ends everything inside
    await awaitGone(identity, RUNNER_MARGIN_MS);
  }
  return await inspectEnclave(stateDir, name);
}

/**
 * Ends a runner whose start has failed, wherever it is by now; its record, if it came to one, says the reason.
 * @param runner of whoever started it.
 */
export async function endRunner(
  stateDir: string,
  name: string,
  { runner, reason }: { readonly runner: ProcessIdentity; readonly reason: string },
): Promise<void> {
  if (await isRunning(runner)) {
    // Before its socket is there the signal does the same, and before that nothing has been started.
    await askStop(stateDir, name, reason).catch(() => signalProcess(runner.pid, "SIGTERM"));
    if (!(await awaitGone(runner, MAX_STOP_MS))) signalProcess(runner.pid, "SIGKILL");
  }
  if ((await readRecord(stateDir, name)) === undefined) await removeEnclave(stateDir, name);
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!isErrno(error, "ESRCH")) throw error;
  }
}

/** Stops and removes. A damaged record is removed as well. */
export async function removeEnclaveByName(stateDir: string, name: string): Promise<void> {
  try {
    await stopEnclave(stateDir, name);
  } catch (error) {
    const known = (await listNames(stateDir)).includes(name);
    if (!(error instanceof KitError) || !known || error.code === "E_HOST_RUNNER") throw error;
  }
  await removeEnclave(stateDir, name);
}

/** Stops and removes every enclave, a few at a time. @returns their names. */
export async function removeAll(stateDir: string): Promise<string[]> {
  const names = await listNames(stateDir);
  const pending = names.values();
  const worker = async (): Promise<void> => {
    for (const name of pending) await removeEnclaveByName(stateDir, name);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return names;
}
