/** The attestation API (routes.ts) over HTTP, on connections that somebody else accepted and secured. */
import type { Socket } from "node:net";

import { fastify, type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";

import { KitError } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import type { Phase } from "../connection-guard.ts";
import { createHandlers, type Handler, type HandlerContext } from "./handlers.ts";
import { PendingAnswers } from "./pending-answers.ts";
import { PROBLEM_TYPE, toApiError, toRefusal } from "./problem.ts";
import { RequestLimits, type RequestRates } from "./request-limits.ts";
import { API_ROUTES, type ApiRoute, type Operation } from "./routes.ts";

export interface AttestationApiOptions extends HandlerContext {
  readonly rates: RequestRates;
  readonly monotonicMs: () => number;
  readonly log: Log;
  /** Before anything is done for a request. @throws E_RA_CLIENT */
  readonly checkClient: (socket: Socket) => void;
  /** What a connection waits for from now on. */
  readonly enter: (socket: Socket, phase: Phase) => void;
}

/** The longest statement and document in base64, with 32 registers. */
const MAX_BODY_BYTES = 56 * 1024;
const MAX_HEAD_BYTES = 8192;
const IDLE_TIMEOUT_MS = 30_000;

/** A server that listens nowhere; connections are put in by `emit("connection")`. */
export async function createAttestationApi(options: AttestationApiOptions): Promise<FastifyInstance> {
  const api = fastify({
    logger: false,
    bodyLimit: MAX_BODY_BYTES,
    routerOptions: { maxParamLength: 64 },
    // A server that listens nowhere has no deadlines of its own: connection-guard.ts has them all.
    requestTimeout: 0,
    connectionTimeout: 0,
    keepAliveTimeout: IDLE_TIMEOUT_MS,
    forceCloseConnections: false,
    exposeHeadRoutes: false,
    frameworkErrors: (error, _request, reply) => void refuse(reply, toApiError(error)),
    clientErrorHandler: refuseBytes,
    http: { maxHeaderSize: MAX_HEAD_BYTES },
  });
  api.setErrorHandler(async (error, _request, reply) => {
    const refusal = toApiError(error);
    const { status } = await refuse(reply, refusal);
    if (status === 500)
      options.log.error("a request failed", { code: refusal.code, reason: refusal.message });
  });
  api.setNotFoundHandler(async (request, reply) => {
    const route = `${request.method} ${request.url.slice(0, 128)}`;
    await refuse(reply, new KitError("E_RA_NOT_FOUND", `the attestation API has no ${route}`));
  });
  addHooks(api, options);
  const limits = new RequestLimits(options.rates, options.monotonicMs);
  api.addHook("onRequest", async (request) => {
    options.checkClient(request.raw.socket);
    limits.admit(request.raw.socket);
  });
  const handlers = createHandlers(options);
  for (const [operation, route] of typedEntries()) {
    const handler = handlers[operation];
    addRoute(api, route, async (body) => {
      limits.admitOperation(operation);
      return await handler(body);
    });
  }
  await api.ready();
  return api;
}

function typedEntries(): readonly (readonly [Operation, ApiRoute])[] {
  const isOperation = (name: string): name is Operation => Object.hasOwn(API_ROUTES, name);
  const operations = Object.keys(API_ROUTES).filter(isOperation);
  return operations.map((operation) => [operation, API_ROUTES[operation]]);
}

/** What the connection waits for, and what was answered. */
function addHooks(api: FastifyInstance, { enter, metrics }: AttestationApiOptions): void {
  const pending = new PendingAnswers(enter);
  api.addHook("preHandler", async (request) => pending.begin(request.raw));
  api.addHook("onResponse", async (request, reply) => {
    pending.end(request.raw);
    const operation = request.routeOptions.url?.replace("/v1/", "") ?? "unknown";
    metrics.requests.inc({ operation, status: String(reply.statusCode) });
  });
}

function addRoute(api: FastifyInstance, route: ApiRoute, handler: Handler): void {
  const { method, path: url, answerType } = route;
  api.route({
    method,
    url,
    handler: async (request: FastifyRequest, reply: FastifyReply) => {
      if (request.url.includes("?")) throw new KitError("E_RA_REQUEST", `${method} ${url} takes no query`);
      const answer = await handler(request.body);
      await reply
        .header("cache-control", "no-store")
        .type(answerType ?? "application/json; charset=utf-8")
        .send(answer);
    },
  });
}

async function refuse(reply: FastifyReply, error: KitError): Promise<{ readonly status: number }> {
  const { status, problem } = toRefusal(error);
  const { retryAfterMs } = error.details;
  if (typeof retryAfterMs === "number") reply.header("retry-after", Math.ceil(retryAfterMs / 1000));
  // Its client's certificate does not get better.
  if (status === 403) reply.header("connection", "close");
  // As bytes: to text the library adds a charset, which this type does not have.
  const body = Buffer.from(JSON.stringify(problem));
  await reply.code(status).header("cache-control", "no-store").type(PROBLEM_TYPE).send(body);
  return { status };
}

/** What came is not HTTP, so there is no request to answer. */
function refuseBytes(error: Error, socket: Socket): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const { problem } = toRefusal(new KitError("E_RA_REQUEST", `not an HTTP request: ${error.message}`));
  const body = JSON.stringify(problem);
  const head = `content-type: ${PROBLEM_TYPE}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close`;
  socket.end(`HTTP/1.1 400 Bad Request\r\n${head}\r\n\r\n${body}`, () => socket.destroy());
}
