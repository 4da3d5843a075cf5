/** Copies as tar streams through the control API (GET and PUT /v1/archive); nothing of them is held in memory. */
import type { ClientRequest, IncomingMessage } from "node:http";
import { type Readable, Writable } from "node:stream";

import type { ArchiveSummary } from "../wire/archive-report.ts";
import { ArchiveSummarySchema } from "../wire/control-schemas.ts";
import { readJson, readRefusal } from "./answer-body.ts";
import { type Dial, openRequest, type OpenRequest, sendRequest } from "./control-request.ts";
import { KitError, toKitError } from "../core/errors.ts";

/** To the head of an answer: the enclave starts a program first; a long copy into it answers at its end. */
const HEAD_TIMEOUT_MS = 60_000;
const MAX_COPY_MS = 24 * 3_600_000;
/** Without any byte; the other end of a local pipe may take its time. */
const IDLE_TIMEOUT_MS = 600_000;

/**
 * The archive of a file or directory. The caller reads it to its end or destroys it; a connection that broke off is an
 * error of the stream.
 */
export async function getArchive(dial: Dial, path: string, signal: AbortSignal): Promise<Readable> {
  const target = pathOf(path);
  const what = "GET /v1/archive";
  const response = await sendRequest(dial, {
    method: "GET",
    path: target,
    signal,
    headTimeoutMs: HEAD_TIMEOUT_MS,
  });
  if (response.statusCode !== 200) throw await readRefusal(response, what);
  response.setTimeout(IDLE_TIMEOUT_MS, () => response.destroy(idle(what)));
  return response;
}

/**
 * @param send writes the whole archive and does not end the stream; if it fails, the copy is broken off.
 * @throws the enclave's refusal rather than that of `send`, which may only be its consequence
 */
export async function putArchive(
  dial: Dial,
  path: string,
  { send, signal }: { readonly send: (output: Writable) => Promise<void>; readonly signal: AbortSignal },
): Promise<ArchiveSummary> {
  const what = "PUT /v1/archive";
  using open = await openRequest(dial, {
    method: "PUT",
    path: pathOf(path),
    headers: { "content-type": "application/x-tar" },
    signal,
    headTimeoutMs: MAX_COPY_MS,
  });
  open.request.setTimeout(IDLE_TIMEOUT_MS, () => open.request.destroy(idle(what)));
  const refusal = findRefusal(open.response, what);
  await sendAll(open, send, refusal);
  const found = await refusal;
  if (found !== undefined) throw found;
  return await readJson(await open.response, what, ArchiveSummarySchema);
}

/** @param refusal what the enclave may say at any time; then nothing more is sent. */
async function sendAll(
  { request }: OpenRequest,
  send: (output: Writable) => Promise<void>,
  refusal: Promise<Error | undefined>,
): Promise<void> {
  const refused = Promise.withResolvers<never>();
  refused.promise.catch(() => undefined); // heard in the race, while that lasts
  const watching = (async () => {
    const found = await refusal;
    if (found !== undefined) refused.reject(found);
  })();
  try {
    const output = openOutput(request);
    await Promise.race([send(output), refused.promise]);
    output.end();
  } catch (error) {
    request.destroy();
    await watching;
    const found = await refusal;
    throw found === undefined || isLost(found) ? error : found;
  }
}

/** What the enclave refuses or why the connection failed; undefined if the answer is a good one. */
async function findRefusal(response: Promise<IncomingMessage>, what: string): Promise<Error | undefined> {
  try {
    const answer = await response;
    return answer.statusCode !== 200 ? await readRefusal(answer, what) : undefined;
  } catch (error) {
    return error instanceof Error ? error : toKitError(error);
  }
}

/** The request as a stream that tells when bytes are with the system. */
function openOutput(request: ClientRequest): Writable {
  const output = new Writable({
    write: (chunk, _encoding, done) => void request.write(chunk, done),
    final: (done) => void request.end(() => done()),
  });
  request.once("close", () => output.destroy());
  return output.on("error", () => undefined);
}

function isLost(error: unknown): boolean {
  return error instanceof KitError && error.code === "E_CONTROL_LOST";
}

function pathOf(path: string): string {
  return `/v1/archive?path=${encodeURIComponent(path)}`;
}

function idle(what: string): KitError {
  return new KitError("E_DEADLINE", `${what}: nothing moved for ${IDLE_TIMEOUT_MS / 60_000} minutes`);
}
