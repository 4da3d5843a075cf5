/** What each operation of the control API does: ask the supervisor, and pass on what it answers. */
import { setTimeout as delay } from "node:timers/promises";

import type { FastifyReply, FastifyRequest } from "fastify";

import { KitError } from "../../core/errors.ts";
import type { EnclaveStatus, ServiceStatus } from "../../wire/control.ts";
import {
  EnclaveStatusSchema,
  ExecRequestSchema,
  ReloadRequestSchema,
  SignalRequestSchema,
  TerminalSizeSchema,
} from "../../wire/control-schemas.ts";
import { getArchive, putArchive } from "./archive-handlers.ts";
import { decodeGatewaySettings } from "../../wire/supervisor-frames.ts";
import type { ApiContext } from "./control-api.ts";
import { toControlError } from "./control-errors.ts";
import { sendNdjson } from "./ndjson-stream.ts";
import { readEvents, readLogs } from "./page-reader.ts";
import { parseBody, parseId, parseQuery } from "./request-values.ts";
import { decodeSessionStatus, toExecStatus } from "./session-answers.ts";
import { ArchiveQuery, EventsQuery, ExecQuery, LogsQuery, type OperationName, StatsQuery } from "./routes.ts";

export type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<void>;
type Upgraded = "attachService" | "startExec";

/** One wait at the supervisor, in ms. */
const WAIT_MS = 25_000;

export function createHandlers(options: ApiContext): Record<Exclude<OperationName, Upgraded>, Handler> {
  return { ...createServiceHandlers(options), ...createSessionHandlers(options), ...createReaders(options) };
}

function createServiceHandlers({ client, network }: ApiContext) {
  const status = async (): Promise<EnclaveStatus> =>
    EnclaveStatusSchema.parse(await client.call({ method: "status" }));
  const act = (method: "service.start" | "service.stop" | "service.restart"): Handler => {
    return async (request, reply) => {
      const name = nameOf(request);
      await client.call({ method, params: { name } });
      await reply.send(findService(await status(), name));
    };
  };
  return {
    status: async (_request, reply) => void (await reply.send(await client.call({ method: "status" }))),
    services: async (_request, reply) => {
      const { services } = await status();
      await reply.send({ services });
    },
    service: async (request, reply) => void (await reply.send(findService(await status(), nameOf(request)))),
    startService: act("service.start"),
    stopService: act("service.stop"),
    restartService: act("service.restart"),
    reload: async (request, reply) => {
      const params = parseBody(request.body, ReloadRequestSchema);
      if (params.egress !== undefined) network.checkEgress(params.egress);
      const result = await client.call({ method: "reload", params });
      await network.setEgress(decodeGatewaySettings(await client.call({ method: "hello" })).egress);
      await reply.send(result);
    },
    poweroff: async (_request, reply) => {
      await reply.code(202).send(await client.call({ method: "poweroff" }));
    },
  } satisfies Partial<Record<OperationName, Handler>>;
}

function createReaders(options: ApiContext) {
  const { client, network } = options;
  const stats = async (signal?: AbortSignal): Promise<unknown> => ({
    ...toFields(await client.call({ method: "stats" }, signal)),
    network: network.totals(),
  });
  return {
    events: async (request, reply) => {
      const query = parseQuery(request.url, EventsQuery);
      await stream(reply, options, (signal) => readEvents(client, query, signal));
    },
    logs: async (request, reply) => {
      const query = parseQuery(request.url, LogsQuery);
      await stream(reply, options, (signal) => readLogs(client, query, signal));
    },
    stats: async (request, reply) => {
      const { intervalMs } = parseQuery(request.url, StatsQuery);
      if (intervalMs === undefined) await reply.send(await stats());
      else await stream(reply, options, (signal) => sampleStats(stats, intervalMs, signal));
    },
    network: async (_request, reply) => void (await reply.send(network.report())),
  } satisfies Partial<Record<OperationName, Handler>>;
}

function createSessionHandlers(options: ApiContext) {
  const { client } = options;
  return {
    createExec: async (request, reply) => {
      const created = await options.tickets.create(client, parseBody(request.body, ExecRequestSchema));
      await reply.code(201).send(created);
    },
    exec: async (request, reply) => {
      const { wait } = parseQuery(request.url, ExecQuery);
      const params = { id: idOf(request), waitMs: wait ? WAIT_MS : 0 };
      const answer = await client.call({ method: "exec.wait", params }, goneSignal(reply));
      await reply.send(toExecStatus(decodeSessionStatus(answer)));
    },
    resizeExec: async (request, reply) => {
      const params = { id: idOf(request), ...parseBody(request.body, TerminalSizeSchema) };
      await client.call({ method: "exec.resize", params });
      await reply.code(204).send();
    },
    signalExec: async (request, reply) => {
      const params = { id: idOf(request), ...parseBody(request.body, SignalRequestSchema) };
      await client.call({ method: "exec.signal", params });
      await reply.code(204).send();
    },
    getArchive: async (request, reply) => {
      const { path } = parseQuery(request.url, ArchiveQuery);
      await getArchive(path, reply, { ...options, signal: goneSignal(reply) });
    },
    putArchive: async (request, reply) => {
      const { path } = parseQuery(request.url, ArchiveQuery);
      await putArchive(path, request, { ...options, signal: goneSignal(reply), reply });
    },
  } satisfies Partial<Record<OperationName, Handler>>;
}

function nameOf({ params }: FastifyRequest): string {
  return parameter(params, "name");
}

function idOf({ params }: FastifyRequest): number {
  return parseId(parameter(params, "id"));
}

function parameter(params: unknown, key: string): string {
  const fields: Readonly<Record<string, unknown>> =
    typeof params === "object" && params !== null ? { ...params } : {};
  const value = fields[key];
  return typeof value === "string" ? value : "";
}

function findService({ services }: EnclaveStatus, name: string): ServiceStatus {
  const service = services.find((one) => one.name === name);
  if (service !== undefined) return service;
  throw new KitError("E_SERVICE_UNKNOWN", `no service ${JSON.stringify(name)} in this enclave`);
}

/** Aborts when the client is gone. */
function goneSignal(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  reply.raw.once("close", () => gone.abort());
  return gone.signal;
}

function toFields(value: unknown): object {
  return typeof value === "object" && value !== null ? value : {};
}

async function* sampleStats(
  stats: (signal: AbortSignal) => Promise<unknown>,
  intervalMs: number,
  signal: AbortSignal,
): AsyncGenerator<readonly unknown[]> {
  while (!signal.aborted) {
    yield [await stats(signal)];
    await delay(intervalMs, undefined, { signal }).catch(() => undefined);
  }
}

/** The first batch is awaited before the answer begins, so that a refusal still has a status. */
async function stream(
  reply: FastifyReply,
  { log }: ApiContext,
  open: (signal: AbortSignal) => AsyncGenerator<readonly unknown[]>,
): Promise<void> {
  const signal = goneSignal(reply);
  const batches = open(signal);
  const first = await batches.next();
  reply.hijack();
  try {
    await sendNdjson(reply.raw, prepend(first, batches), signal);
  } catch (error) {
    if (signal.aborted) return;
    const refusal = toControlError(error);
    log.warn("a stream was cut", { code: refusal.code, reason: refusal.message });
    reply.raw.destroy();
  }
}

async function* prepend<T>(first: IteratorResult<T>, rest: AsyncGenerator<T>): AsyncGenerator<T> {
  if (first.done === true) return;
  yield first.value;
  yield* rest;
}
