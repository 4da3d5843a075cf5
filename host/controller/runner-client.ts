/** Talks to the runner of an enclave over its socket. */
import { setTimeout as delay } from "node:timers/promises";

import { isErrno, KitError } from "../../core/errors.ts";
import { loadHttp } from "../../core/http-module.ts";
import { isRunning, type ProcessIdentity } from "../../core/process-identity.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";
import { enclavePaths } from "../state/enclave-paths.ts";
import { readRecord } from "../state/record-store.ts";

const REQUEST_TIMEOUT_MS = 5_000;
const POLL_MS = 10;

export function runnerOf(record: EnclaveRecord): ProcessIdentity | undefined {
  const { pid, startTicks } = record.runner;
  return pid === null || startTicks === null ? undefined : { pid, startTicks };
}

/**
 * Asks the runner for an ordered stop, and for the kill of what has not ended after that time. A runner that has only just begun
 * gets the time to open its socket.
 * @throws E_HOST_RUNNER
 */
export async function askStop(stateDir: string, name: string, timeoutMs?: number): Promise<void> {
  const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
  const query = timeoutMs === undefined ? "" : `?timeout=${Math.round(timeoutMs)}`;
  const socketPath = enclavePaths(stateDir, name).runnerSocket;
  for (;;) {
    try {
      return await post(socketPath, `/stop${query}`, signal);
    } catch (error) {
      const isEarly = isErrno(error, "ENOENT") || isErrno(error, "ECONNREFUSED");
      const record = isEarly ? await readRecord(stateDir, name) : undefined;
      const identity = record === undefined ? undefined : runnerOf(record);
      if (identity === undefined || signal.aborted || !(await isRunning(identity))) {
        throw new KitError("E_HOST_RUNNER", `the runner of ${name} does not answer`, { cause: error });
      }
      await delay(POLL_MS);
    }
  }
}

async function post(socketPath: string, path: string, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const request = loadHttp().request(
    { socketPath, method: "POST", path, agent: false, signal },
    (response) => {
      response.resume();
      response.once("end", resolve).once("error", reject);
    },
  );
  request.once("error", reject).end();
  await promise;
}

/** Resolves once the process is gone; false if it is still there after the time. */
export async function awaitGone(identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (await isRunning(identity)) {
    if (Date.now() > deadline) return false;
    await delay(POLL_MS);
  }
  return true;
}
