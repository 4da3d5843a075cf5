/** Talks to the runner of an enclave over its socket. */
import { request as httpRequest } from "node:http";
import { setTimeout as delay } from "node:timers/promises";

import { KitError } from "../../core/errors.ts";
import { isRunning, type ProcessIdentity } from "../process-identity.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";
import { enclavePaths } from "../state/enclave-paths.ts";

const REQUEST_TIMEOUT_MS = 5_000;
const POLL_MS = 10;

export function runnerOf(record: EnclaveRecord): ProcessIdentity | undefined {
  const { pid, startTicks } = record.runner;
  return pid === null || startTicks === null ? undefined : { pid, startTicks };
}

/** Asks the runner for an ordered stop; with a reason the end counts as a failure. @throws E_HOST_RUNNER */
export async function askStop(stateDir: string, name: string, reason?: string): Promise<void> {
  const socketPath = enclavePaths(stateDir, name).runnerSocket;
  const query = reason === undefined ? "" : `?reason=${encodeURIComponent(reason.slice(0, 1000))}`;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
  const request = httpRequest(
    { socketPath, method: "POST", path: `/stop${query}`, agent: false, signal },
    (response) => {
      response.resume();
      response.once("end", resolve);
    },
  );
  request.once("error", reject).end();
  await promise.catch((error: unknown) => {
    throw new KitError("E_HOST_RUNNER", `the runner of ${name} does not answer`, { cause: error });
  });
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
