/** The control API (wire/control.ts) over HTTP. It knows nothing but what the supervisor answers. */
import type { Socket } from "node:net";

import { fastify, type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";

import { errorToJson, KitError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { httpStatusOf, toControlError } from "./control-errors.ts";
import { assertNoQuery, parseEventsQuery, parseLogsQuery } from "./control-query.ts";
import { sendNdjson } from "./ndjson-stream.ts";
import { readEvents, readLogs } from "./page-reader.ts";
import type { SupervisorClient } from "./supervisor-client.ts";

export interface ControlApiOptions {
  readonly client: SupervisorClient;
  readonly log: Log;
}

const MAX_CONNECTIONS = 64;
const MAX_BODY_BYTES = 4096;
const MAX_URL_BYTES = 8192;
const HEADERS_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 30_000;

/** The server, not yet listening. */
export async function createControlApi({ client, log }: ControlApiOptions): Promise<FastifyInstance> {
  const api = fastify({
    logger: false,
    bodyLimit: MAX_BODY_BYTES,
    routerOptions: { maxParamLength: 64 },
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: IDLE_TIMEOUT_MS,
    forceCloseConnections: true,
    exposeHeadRoutes: false,
    frameworkErrors: (error, _request, reply) => void refuse(reply, toControlError(error)),
    clientErrorHandler: refuseBytes,
    http: { maxHeaderSize: MAX_URL_BYTES, headersTimeout: HEADERS_TIMEOUT_MS },
  });
  api.server.maxConnections = MAX_CONNECTIONS;
  api.setErrorHandler(async (error, _request, reply) => refuse(reply, toControlError(error)));
  api.setNotFoundHandler(async (request, reply) => {
    const route = `${request.method} ${request.url.slice(0, 128)}`;
    await refuse(reply, new KitError("E_CONTROL_NOT_FOUND", `the control API has no ${route}`));
  });
  api.get("/v1/status", async (request, reply) => {
    assertNoQuery(searchOf(request));
    await reply.send(await client.call({ method: "status" }));
  });
  api.post("/v1/poweroff", async (request, reply) => {
    assertNoQuery(searchOf(request));
    await reply.code(202).send(await client.call({ method: "poweroff" }));
  });
  api.get("/v1/events", async (request, reply) => {
    const { after } = parseEventsQuery(searchOf(request));
    await stream(reply, log, (signal) => readEvents(client, after, signal));
  });
  api.get("/v1/logs", async (request, reply) => {
    const query = parseLogsQuery(searchOf(request));
    await stream(reply, log, (signal) => readLogs(client, query, signal));
  });
  await api.ready();
  return api;
}

function searchOf(request: FastifyRequest): URLSearchParams {
  return new URL(request.url, "http://enclave").searchParams;
}

async function refuse(reply: FastifyReply, error: KitError): Promise<void> {
  await reply.code(httpStatusOf(error)).send(errorToJson(error));
}

/** What came is not HTTP, so there is no request to answer. */
function refuseBytes(error: Error, socket: Socket): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const refusal = new KitError("E_CONTROL_REQUEST", `not an HTTP request: ${error.message}`, {
    cause: error,
  });
  const body = JSON.stringify(errorToJson(refusal));
  const head = `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close`;
  socket.end(`HTTP/1.1 400 Bad Request\r\n${head}\r\n\r\n${body}`, () => socket.destroy());
}

/** The first batch is awaited before the answer begins, so that a refusal still has a status. */
async function stream(
  reply: FastifyReply,
  log: Log,
  open: (signal: AbortSignal) => AsyncGenerator<readonly unknown[]>,
): Promise<void> {
  const gone = new AbortController();
  const response = reply.raw;
  response.once("close", () => gone.abort());
  const batches = open(gone.signal);
  const first = await batches.next();
  reply.hijack();
  try {
    await sendNdjson(response, prepend(first, batches), gone.signal);
  } catch (error) {
    if (gone.signal.aborted) return;
    const refusal = toControlError(error);
    log.warn("a stream was cut", { code: refusal.code, reason: refusal.message });
    response.destroy();
  }
}

async function* prepend<T>(first: IteratorResult<T>, rest: AsyncGenerator<T>): AsyncGenerator<T> {
  if (first.done === true) return;
  yield first.value;
  yield* rest;
}
