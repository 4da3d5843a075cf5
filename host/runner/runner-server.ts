/**
 * What a runner answers on runner.sock (0600):
 *
 *   GET  /status                        the record
 *   POST /stop?reason=TEXT&timeout=MS   202; asks for an ordered stop; with a reason the end counts as a failure;
 *                                       what has not ended after the time is killed
 */
import { chmod, rm } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";

import { loadHttp } from "../../core/http-module.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";

const REQUEST_TIMEOUT_MS = 5_000;
const MAX_REASON = 1024;

export interface RunnerServerOptions {
  readonly path: string;
  readonly record: () => EnclaveRecord;
  readonly stop: (reason: string | undefined, timeoutMs: number | undefined) => void;
}

export async function openRunnerServer(options: RunnerServerOptions): Promise<AsyncDisposable> {
  const server = loadHttp().createServer(
    { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS, maxHeaderSize: 8192 },
    (request, response) => answer(request, response, options),
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

function answer(request: IncomingMessage, response: ServerResponse, options: RunnerServerOptions): void {
  const url = URL.parse(request.url ?? "/", "http://runner"); // null for `//` and the like
  const route = `${request.method ?? ""} ${url?.pathname ?? ""}`;
  request.resume();
  response.setHeader("content-type", "application/json");
  if (route === "GET /status") {
    response.end(JSON.stringify(options.record()));
  } else if (route === "POST /stop") {
    stop(url?.searchParams ?? new URLSearchParams(), options);
    response.writeHead(202).end("{}");
  } else {
    response.writeHead(404).end("{}");
  }
}
