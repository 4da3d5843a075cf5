/** Talks to the runner of an enclave over its socket. */
import type { IncomingMessage } from "node:http";
import { setTimeout as delay } from "node:timers/promises";

import { withDeadline } from "../../core/deadline.ts";
import { isErrorCode } from "../../core/error-table.ts";
import { isErrno, KitError } from "../../core/errors.ts";
import { loadHttp } from "../../core/http-module.ts";
import { isRunning, type ProcessIdentity } from "../../core/process-identity.ts";
import { ErrorJsonSchema } from "../../wire/control-schemas.ts";
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
  await send(socketPath, { method: "POST", path, signal });
}

export interface RunnerRequest {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  readonly path: string;
  readonly body?: unknown;
  readonly signal: AbortSignal;
}

const MAX_ANSWER_BYTES = 8 * 1024 * 1024;

/**
 * What the runner of an enclave answers (host/runner/runner-server.ts), as JSON.
 * @throws E_HOST_RUNNER, and what the runner refuses
 */
export async function askRunner(stateDir: string, name: string, request: RunnerRequest): Promise<unknown> {
  const signal = withDeadline(request.signal, REQUEST_TIMEOUT_MS);
  const answer = await send(enclavePaths(stateDir, name).runnerSocket, { ...request, signal }).catch(
    (error: unknown) => {
      request.signal.throwIfAborted();
      throw new KitError("E_HOST_RUNNER", `the runner of ${name} does not answer`, { cause: error });
    },
  );
  if (answer.status >= 200 && answer.status < 300) return answer.body;
  const { code, message, hint } = ErrorJsonSchema.parse(answer.body);
  throw new KitError(isErrorCode(code) ? code : "E_HOST_RUNNER", message, { hint });
}

async function send(
  socketPath: string,
  { method, path, body, signal }: RunnerRequest,
): Promise<{ readonly status: number; readonly body: unknown }> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const request = loadHttp().request({ socketPath, method, path, agent: false, signal }, resolve);
  request.once("error", reject).end(body === undefined ? undefined : JSON.stringify(body));
  const response = await promise;
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of response) {
    if (!Buffer.isBuffer(chunk)) continue;
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_ANSWER_BYTES) throw new RangeError(`more than ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  const value: unknown = JSON.parse(Buffer.concat(chunks).toString("utf8"));
  return { status: response.statusCode ?? 0, body: value };
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
