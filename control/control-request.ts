/**
 * One request to the control API of an enclave (wire/control.ts) on a connection of its own. The other side is not
 * trusted: heads are bounded by the parser, every wait by a deadline, and nothing of a body is read here.
 */
import type { ClientRequest, IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { addAbortSignal } from "node:stream";

import { isErrno, KitError } from "../core/errors.ts";
import { loadHttp } from "../core/http-module.ts";

const MAX_HEAD_BYTES = 16 * 1024;

/** Opens a connection to the control API, with `allowHalfOpen`. The caller owns the socket. */
export type Dial = (signal: AbortSignal) => Promise<Duplex>;

export interface ControlRequest {
  readonly method: "GET" | "POST" | "PUT";
  /** With its query. */
  readonly path: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Ends the request whenever it aborts, also while its answer is being read. */
  readonly signal: AbortSignal;
  /** From the dial to the head of the answer. */
  readonly headTimeoutMs: number;
}

export interface OpenRequest extends Disposable {
  readonly request: ClientRequest;
  /** Settles with the head of the answer, or refuses as E_CONTROL_LOST, E_HOST_CONTROL, E_DEADLINE, or the signal's reason. */
  readonly response: Promise<IncomingMessage>;
}

/** Dials and sends the head; the body is the caller's to write and end. Disposal closes the connection. */
export async function openRequest(dial: Dial, options: ControlRequest): Promise<OpenRequest> {
  const { method, path, headers, signal, headTimeoutMs } = options;
  const what = `${method} ${path.split("?", 1)[0] ?? ""}`;
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(tooLate(what, headTimeoutMs)), headTimeoutMs);
  const ended = AbortSignal.any([signal, late.signal]);
  const explain = (error: unknown): unknown => (ended.aborted ? ended.reason : explainFailure(what, error));
  try {
    const socket = await dial(ended);
    const request = loadHttp().request({
      method,
      path,
      host: "enclave",
      maxHeaderSize: MAX_HEAD_BYTES,
      createConnection: () => socket,
      ...(headers === undefined ? {} : { headers }),
    });
    // A dial that had to read something first leaves its socket paused.
    request.once("socket", () => socket.resume());
    const response = headOf(request, explain);
    const stop = (): void => void request.destroy();
    const release = (): void => {
      clearTimeout(timer);
      ended.removeEventListener("abort", stop);
    };
    request.once("response", (answer) => {
      clearTimeout(timer);
      // Reading it then fails with the reason, not with the reset that the end of the request would look like.
      ended.removeEventListener("abort", stop);
      addAbortSignal(signal, answer);
      request.on("error", (error) => answer.destroy(error));
    });
    request.once("close", release);
    ended.addEventListener("abort", stop, { once: true });
    if (ended.aborted) stop();
    const dispose = (): void => {
      release();
      request.destroy();
    };
    return { request, response, [Symbol.dispose]: dispose };
  } catch (error) {
    clearTimeout(timer);
    throw ended.aborted ? ended.reason : error;
  }
}

/** Sends a whole request. Whoever gets the answer reads it to its end or destroys it. */
export async function sendRequest(dial: Dial, options: ControlRequest): Promise<IncomingMessage> {
  const text = options.body === undefined ? undefined : JSON.stringify(options.body);
  const headers = text === undefined ? {} : { "content-type": "application/json" };
  const open = await openRequest(dial, { ...options, headers: { ...headers, ...options.headers } });
  open.request.end(text);
  try {
    return await open.response;
  } catch (error) {
    open[Symbol.dispose]();
    throw error;
  }
}

function headOf(request: ClientRequest, explain: (error: unknown) => unknown): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  request.once("response", resolve);
  request.on("error", (error) => reject(explain(error)));
  request.once("close", () => reject(explain(new Error("the connection was closed"))));
  promise.catch(() => undefined); // whoever waits for it hears of it; nobody may be waiting yet
  return promise;
}

/** Also for errors of an answer's body. */
export function explainFailure(what: string, error: unknown): unknown {
  if (error instanceof KitError) return error;
  if (error instanceof Error && error.name === "AbortError") return error.cause ?? error;
  const isMalformed = isErrno(error) && error.code?.startsWith("HPE_") === true;
  if (isMalformed) return new KitError("E_HOST_CONTROL", `${what}: the answer is no HTTP`, { cause: error });
  return new KitError("E_CONTROL_LOST", `${what}: the connection to the enclave broke off`, { cause: error });
}

function tooLate(what: string, timeoutMs: number): KitError {
  return new KitError("E_DEADLINE", `${what}: the enclave did not answer within ${timeoutMs / 1000} s`);
}
