/** The requests of `pipeline attest` to an attestation server. */
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { connect, type TLSSocket } from "node:tls";
import type { Duplex } from "node:stream";

import { Agent, type buildConnector, type Dispatcher, request } from "undici";

import { attestedAgent } from "../../attest/client/attested-agent.ts";
import type { ClientPolicy } from "../../attest/client/client-policy.ts";
import type { Dial } from "../../control/control-request.ts";
import { backoffDelayMs } from "../../core/backoff.ts";
import { KitError, toKitError } from "../../core/errors.ts";
import { toPrintable } from "../../core/printable.ts";
import { AttestationAnswerSchema, type Problem, ProblemSchema } from "../../wire/attestation-api.ts";

/** Answers are small: a document has about five thousand bytes. */
const MAX_BODY_BYTES = 64 * 1024;
const RETRY = { initialMs: 100, maximumMs: 1_000, jitter: 0.2 };
/** Names nobody: connections go by `dial`, and what is proven is no name. */
const ORIGIN = "https://enclave";

export interface DocumentRequest {
  readonly dial: Dial;
  readonly policy: ClientPolicy;
  readonly nonce: Uint8Array;
  readonly statement: Uint8Array;
  readonly signal: AbortSignal;
  readonly onProgress: (step: string) => void;
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/**
 * A fresh document, over a connection that ends in the enclave itself: its certificate carries a document about its key.
 * @throws E_RA_ANSWER, E_RA_CONNECT, E_EVIDENCE_*, E_UNMET_*
 */
export async function requestDocument(asked: DocumentRequest): Promise<Uint8Array> {
  for (let attempt = 0; ; attempt += 1) {
    const given = await tryRequest(asked);
    if (given instanceof Uint8Array) return given;
    // Measuring the files of a local enclave for the first time takes seconds.
    if (given.said?.code !== "E_RA_STARTING") throw given.refusal;
    asked.onProgress("waiting for the first document of the enclave");
    const pauseMs = backoffDelayMs(RETRY, attempt, Math.random);
    await delay(pauseMs, undefined, { signal: asked.signal }).catch(() => asked.signal.throwIfAborted());
  }
}

interface Refused {
  readonly refusal: KitError;
  /** Where the enclave showed no evidence, what it says about that. Nothing of it is proven, so it only explains. */
  readonly said?: Problem;
}

async function tryRequest(asked: DocumentRequest): Promise<Uint8Array | Refused> {
  const { dial, policy, signal } = asked;
  const agent = attestedAgent(policy, { signal, dial: async () => ({ socket: await dial(signal) }) });
  try {
    return await askDocument(agent, asked);
  } catch (error) {
    return await tellReason(findRefusal(error), dial, signal);
  } finally {
    await agent.destroy();
  }
}

async function askDocument(
  agent: Dispatcher,
  { nonce, statement, signal }: DocumentRequest,
): Promise<Uint8Array> {
  const body = JSON.stringify({
    nonce: Buffer.from(nonce).toString("base64"),
    ...(statement.length === 0 ? {} : { statement: Buffer.from(statement).toString("base64") }),
  });
  const answer = await ask(agent, { method: "POST", path: "/v1/attestation", body, signal });
  const parsed = AttestationAnswerSchema.safeParse(answer.body);
  if (answer.status === 200 && parsed.success) return parsed.data.document;
  throw new KitError("E_RA_ANSWER", `no document came: ${describe(answer)}`);
}

/** What refused the connection, out of what undici makes of it. */
function findRefusal(error: unknown): KitError {
  for (let cause = error; cause instanceof Error; cause = cause.cause)
    if (cause instanceof KitError) return cause;
  return toKitError(error);
}

async function tellReason(refusal: KitError, dial: Dial, signal: AbortSignal): Promise<Refused> {
  if (refusal.code !== "E_EVIDENCE_MISSING") return { refusal };
  const agent = new Agent({
    connect: (_target, callback) => void giveUnproven({ dial, signal, callback }),
  });
  try {
    const answer = await ask(agent, { method: "GET", path: "/v1/ready", signal });
    const message = `${refusal.message}; the enclave says: ${describe(answer)}`;
    const explained = new KitError("E_EVIDENCE_MISSING", message, { cause: refusal });
    const problem = ProblemSchema.safeParse(answer.body);
    return { refusal: explained, ...(problem.success ? { said: problem.data } : {}) };
  } catch {
    return { refusal };
  } finally {
    await agent.destroy();
  }
}

interface Asking {
  readonly dial: Dial;
  readonly signal: AbortSignal;
  readonly callback: buildConnector.Callback;
}

async function giveUnproven({ dial, signal, callback }: Asking): Promise<void> {
  try {
    callback(null, await connectUnproven(dial, signal));
  } catch (error) {
    callback(toKitError(error), null);
  }
}

async function connectUnproven(dial: Dial, signal: AbortSignal): Promise<TLSSocket> {
  const raw: Duplex = await dial(signal);
  const socket = connect({ socket: raw, rejectUnauthorized: false });
  socket.on("error", () => raw.destroy());
  await once(socket, "secureConnect", { signal });
  return socket;
}

interface Question {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body?: string;
  readonly signal: AbortSignal;
}

async function ask(dispatcher: Dispatcher, { method, path, body = "", signal }: Question): Promise<Answer> {
  const headers = body === "" ? {} : { "content-type": "application/json" };
  const options = { dispatcher, method, headers, body: body === "" ? null : body, signal };
  const answer = await request(`${ORIGIN}${path}`, options);
  const bytes: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of answer.body) {
    if (!(chunk instanceof Uint8Array)) continue;
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_BODY_BYTES)
      throw new KitError("E_RA_ANSWER", `an answer of more than ${MAX_BODY_BYTES} bytes`);
    bytes.push(chunk);
  }
  return { status: answer.statusCode, body: parse(Buffer.concat(bytes).toString("utf8")) };
}

function parse(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return value;
  } catch {
    return undefined;
  }
}

function describe({ status, body }: Answer): string {
  const problem = ProblemSchema.safeParse(body);
  if (!problem.success) return `status ${status}`;
  return toPrintable(`${problem.data.code}: ${problem.data.detail}`);
}
