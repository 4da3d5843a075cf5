/** The control API (routes.ts) over HTTP. It knows nothing but what the supervisor answers. */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";

import { fastify, type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";

import { errorToJson, KitError } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import type { EnclaveStats } from "../../wire/control.ts";
import type { EgressConfig } from "../../wire/egress-policy.ts";
import type { NetworkReport } from "../../wire/network-report.ts";
import { createHandlers, type Handler } from "./control-handlers.ts";
import { httpStatusOf, toControlError } from "./control-errors.ts";
import { describeApi } from "./openapi.ts";
import { CONTROL_ROUTES, type ControlRoute } from "./routes.ts";
import type { SupervisorClient } from "./supervisor-client.ts";
import { TicketStore } from "./ticket-store.ts";
import { serveUpgrade } from "./upgrade-handlers.ts";

export interface ControlApiOptions {
  readonly client: SupervisorClient;
  /** Socket to which session streams connect. */
  readonly streamSocket: string;
  readonly log: Log;
  readonly network: NetworkControl;
}

/** What the gateway itself knows and decides. */
export interface NetworkControl {
  readonly report: () => NetworkReport;
  readonly totals: () => EnclaveStats["network"];
  /** Before anything is changed. @throws E_EGRESS_RULE, E_EGRESS_NAME */
  readonly checkEgress: (egress: unknown) => void;
  /** @throws E_EGRESS_RULE, E_EGRESS_NAME */
  readonly setEgress: (config: EgressConfig) => Promise<void>;
}

/** What the operations share. */
export interface ApiContext extends ControlApiOptions {
  readonly tickets: TicketStore;
}

const MAX_BODY_BYTES = 4096;
const MAX_URL_BYTES = 8192;
const HEADERS_TIMEOUT_MS = 5_000;
/** How often connections are looked at for those that take too long. */
const CHECK_INTERVAL_MS = 1_000;
const IDLE_TIMEOUT_MS = 30_000;
/** For a body to come whole; copies have none. */
const BODY_TIMEOUT_MS = 10_000;

/** The server, not yet listening. */
export async function createControlApi(options: ControlApiOptions): Promise<FastifyInstance> {
  const api = fastify({
    logger: false,
    bodyLimit: MAX_BODY_BYTES,
    routerOptions: { maxParamLength: 64 },
    // The head has its own limit; a body may be a copy that takes hours, and an idle connection is closed.
    requestTimeout: 0,
    connectionTimeout: 0,
    keepAliveTimeout: IDLE_TIMEOUT_MS,
    forceCloseConnections: true,
    exposeHeadRoutes: false,
    frameworkErrors: (error, _request, reply) => void refuse(reply, toControlError(error)),
    clientErrorHandler: refuseBytes,
    http: {
      maxHeaderSize: MAX_URL_BYTES,
      headersTimeout: HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: CHECK_INTERVAL_MS,
    },
  });
  api.setErrorHandler(async (error, _request, reply) => refuse(reply, toControlError(error)));
  api.setNotFoundHandler(async (request, reply) => {
    const route = `${request.method} ${request.url.slice(0, 128)}`;
    await refuse(reply, new KitError("E_CONTROL_NOT_FOUND", `the control API has no ${route}`));
  });
  // A tar archive is not read here: its bytes go on to the program that unpacks it.
  api.addContentTypeParser("application/x-tar", (_request, payload, done) => done(null, payload));
  limitBodyTime(api);
  const context: ApiContext = { ...options, tickets: new TicketStore() };
  const handlers = createHandlers(context);
  for (const [operation, route] of Object.entries(CONTROL_ROUTES)) {
    const handler = Object.entries(handlers).find(([name]) => name === operation)?.[1];
    if (handler !== undefined) addRoute(api, route, handler);
  }
  api.get("/v1/openapi.json", async (_request, reply) => {
    await reply.send(describeApi());
  });
  api.server.on("upgrade", (request: IncomingMessage, connection: Duplex, head: Buffer) => {
    void serveUpgrade({ request, connection, head }, context);
  });
  await api.ready();
  return api;
}

/** The library has one time for head and body of every request, and copies take hours. */
function limitBodyTime(api: FastifyInstance): void {
  const timers = new WeakMap<FastifyRequest, NodeJS.Timeout>();
  const stop = async (request: FastifyRequest): Promise<void> => clearTimeout(timers.get(request));
  api.addHook("onRequest", async (request) => {
    timers.set(
      request,
      setTimeout(() => request.raw.destroy(), BODY_TIMEOUT_MS),
    );
  });
  // After the body was read, and when that has failed.
  api.addHook("preHandler", stop);
  api.addHook("onResponse", stop);
  api.addHook("onRequestAbort", stop);
}

function addRoute(api: FastifyInstance, route: ControlRoute, handler: Handler): void {
  const { method, path: url, maxBodyBytes, bodyType } = route;
  const bodyLimit = bodyType === undefined ? (maxBodyBytes ?? MAX_BODY_BYTES) : Number.MAX_SAFE_INTEGER;
  api.route({
    method,
    url,
    bodyLimit,
    handler: async (request: FastifyRequest, reply: FastifyReply) => {
      if (route.query === undefined && request.url.includes("?")) {
        throw new KitError("E_CONTROL_REQUEST", `${method} ${url} takes no query`);
      }
      await handler(request, reply);
    },
  });
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
