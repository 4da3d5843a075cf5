/**
 * What a runner answers on runner.sock (0600):
 *
 *   GET    /status                        the record
 *   POST   /stop?reason=TEXT&timeout=MS   202; asks for an ordered stop; with a reason the end counts as a failure;
 *                                         what has not ended after the time is killed
 *   GET    /network                       wire/network-report.ts, the host's side
 *   POST   /ports?mapping=A:H:S           200 and the port that listens now
 *   DELETE /ports?mapping=A:H:S           200; connections go on
 *   PUT    /egress                        200 and the rules before; the host's copy is the body from now on, or the
 *                                         image's own where there is no body
 *
 * Refusals: 409 and wire shape core/errors.ts ErrorJson.
 */
import { chmod, rm } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";

import { errorToJson, KitError, toKitError } from "../../core/errors.ts";
import { loadHttp } from "../../core/http-module.ts";
import { decodeEgressConfig, type EgressConfig } from "../../wire/egress-policy.ts";
import type { PortSpec } from "../config/enclave-spec.ts";
import { parsePortMapping } from "../config/port-mapping.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";
import type { NetworkSide } from "./network-side.ts";

const REQUEST_TIMEOUT_MS = 5_000;
const MAX_REASON = 1024;

export interface RunnerServerOptions {
  readonly path: string;
  readonly record: () => EnclaveRecord;
  readonly stop: (reason: string | undefined, timeoutMs: number | undefined) => void;
  readonly network: NetworkSide;
}

const MAX_BODY_BYTES = 1024 * 1024;

export async function openRunnerServer(options: RunnerServerOptions): Promise<AsyncDisposable> {
  const server = loadHttp().createServer(
    { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS, maxHeaderSize: 8192 },
    (request, response) => void answer(request, response, options),
  );
  server.maxConnections = 64;
  await rm(options.path, { force: true });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(options.path, resolve);
  await promise;
  await chmod(options.path, 0o600);
  return {
    [Symbol.asyncDispose]: async () => {
      const { promise: closed, resolve: close } = Promise.withResolvers<unknown>();
      server.close(close);
      server.closeAllConnections();
      await closed;
      await rm(options.path, { force: true });
    },
  };
}

function stop(query: URLSearchParams, options: RunnerServerOptions): void {
  const timeout = query.get("timeout") ?? "";
  const timeoutMs = /^[0-9]{1,9}$/.test(timeout) ? Number(timeout) : undefined;
  options.stop(query.get("reason")?.slice(0, MAX_REASON) || undefined, timeoutMs);
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  options: RunnerServerOptions,
): Promise<void> {
  response.on("error", () => undefined); // a client that is gone wants no answer
  const url = URL.parse(request.url ?? "/", "http://runner"); // null for `//` and the like
  const route = `${request.method ?? ""} ${url?.pathname ?? ""}`;
  const query = url?.searchParams ?? new URLSearchParams();
  const { status, body } = await carryOut(route, query, { request, options }).catch(
    (error: unknown): Answer => ({ status: 409, body: errorToJson(toKitError(error)) }),
  );
  request.resume();
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

async function carryOut(
  route: string,
  query: URLSearchParams,
  { request, options }: { readonly request: IncomingMessage; readonly options: RunnerServerOptions },
): Promise<Answer> {
  const { network } = options;
  switch (route) {
    case "GET /status":
      return { status: 200, body: options.record() };
    case "POST /stop":
      stop(query, options);
      return { status: 202, body: {} };
    case "GET /network":
      return { status: 200, body: network.report() };
    case "POST /ports":
      return { status: 200, body: await network.addPort(readMapping(query)) };
    case "DELETE /ports":
      await network.removePort(readMapping(query));
      return { status: 200, body: {} };
    case "PUT /egress":
      return { status: 200, body: network.setEgress(await readEgress(request)) };
    default:
      return { status: 404, body: {} };
  }
}

function readMapping(query: URLSearchParams): PortSpec {
  const text = query.get("mapping") ?? "";
  const port = parsePortMapping(text);
  if (port !== undefined) return port;
  throw new KitError("E_CONFIG_PORT", `${JSON.stringify(text.slice(0, 100))} is no port mapping`);
}

/** @throws E_EGRESS_RULE */
async function readEgress(request: IncomingMessage): Promise<EgressConfig | undefined> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of request) {
    if (!Buffer.isBuffer(chunk)) continue;
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_BODY_BYTES) throw refuse("the rules are too large");
    chunks.push(chunk);
  }
  if (sizeBytes === 0) return undefined;
  const value: unknown = JSON.parse(Buffer.concat(chunks).toString("utf8"));
  return decodeEgressConfig(value, "egress", refuse);
}

function refuse(message: string): KitError {
  return new KitError("E_EGRESS_RULE", message);
}
