/** One probe of a service's health. Every kind answers within its deadline and leaves nothing behind. */
import type { Socket } from "node:net";

import { withDeadline } from "../core/deadline.ts";
import { openSocket } from "../core/open-socket.ts";
import type { Healthcheck, HealthTest, ServiceConfig } from "../wire/enclave-config.ts";
import { environmentOf, startProcess } from "./service-process.ts";

export interface ProbeResult {
  readonly healthy: boolean;
  /** For people, at most MAX_DETAIL characters. */
  readonly detail: string;
}

export interface ProbeContext {
  readonly service: ServiceConfig;
  readonly serviceExec: string;
  readonly setIdentity: boolean;
  /** The service's own walls. */
  readonly options: readonly string[];
}

const MAX_DETAIL = 256;
/** A connection of a probe that succeeded is cut after this, in ms. */
const LEAVE_MS = 1_000;
const LOOPBACK = "127.0.0.1";
const MAX_STATUS_LINE = 1024;

/** Never rejects. @param signal ends the probe early; its result then has no meaning. */
export async function probeHealth(
  { test, timeoutMs }: Pick<Healthcheck, "test" | "timeoutMs">,
  context: ProbeContext,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const deadline = withDeadline(signal, timeoutMs);
  try {
    const result = await runProbe(test, context, deadline);
    return deadline.aborted ? timedOut(timeoutMs) : { ...result, detail: result.detail.slice(0, MAX_DETAIL) };
  } catch (error) {
    if (deadline.aborted) return timedOut(timeoutMs);
    const detail = error instanceof Error ? error.message : String(error);
    return { healthy: false, detail: detail.slice(0, MAX_DETAIL) };
  }
}

function timedOut(timeoutMs: number): ProbeResult {
  return { healthy: false, detail: `no answer within ${timeoutMs} ms` };
}

function runProbe(test: HealthTest, context: ProbeContext, signal: AbortSignal): Promise<ProbeResult> {
  switch (test.kind) {
    case "exec":
      return probeExec(test.command, context, signal);
    case "http":
      return probeHttp(test.port, test.path, signal);
    default:
      return probeTcp(test.port, signal);
  }
}

/** Runs as the service itself: same identity, directory and environment. */
async function probeExec(
  command: readonly string[],
  { service, serviceExec, setIdentity, options }: ProbeContext,
  signal: AbortSignal,
): Promise<ProbeResult> {
  let output = "";
  const sink = {
    push: (chunk: Uint8Array): void => {
      if (output.length < MAX_DETAIL) output += Buffer.from(chunk.subarray(0, MAX_DETAIL)).toString("utf8");
    },
    end: (): void => undefined,
  };
  const { user, workingDir } = service;
  const started = startProcess({
    serviceExec,
    setIdentity,
    user,
    workingDir,
    environment: environmentOf(service),
    command,
    options,
    openOutput: () => sink,
  });
  const kill = (): void => started.kill("SIGKILL");
  signal.addEventListener("abort", kill, { once: true });
  if (signal.aborted) kill();
  const end = await started.ended;
  signal.removeEventListener("abort", kill);
  const printed = output.trim();
  return { healthy: end.clean, detail: printed === "" ? end.reason : `${end.reason}: ${printed}` };
}

/**
 * GET with HTTP/1.1, of which only the status line is read. By hand because node:http alone would take a quarter of the
 * supervisor's memory (measured: 17 MB).
 */
async function probeHttp(port: number, path: string, signal: AbortSignal): Promise<ProbeResult> {
  const { promise, resolve, reject } = Promise.withResolvers<ProbeResult>();
  const socket = await dial(port, signal);
  const abort = (): void => reject(signal.reason);
  let head = "";
  socket.on("error", reject).once("end", () => reject(new Error("the connection ended without a status")));
  socket.on("data", (chunk: Buffer) => {
    if (head.length < MAX_STATUS_LINE) head += chunk.toString("latin1", 0, MAX_STATUS_LINE);
    const status = parseStatus(head);
    if (status !== undefined)
      resolve({ healthy: status >= 200 && status < 400, detail: `HTTP status ${status}` });
    else if (head.includes("\n") || head.length >= MAX_STATUS_LINE)
      reject(new Error("the answer is not HTTP"));
  });
  signal.addEventListener("abort", abort, { once: true });
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: ${LOOPBACK}:${port}\r\nConnection: close\r\nUser-Agent: healthcheck\r\n\r\n`,
  );
  try {
    const result = await promise;
    leaveGently(socket);
    return result;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** Status of a whole status line; undefined for anything else. */
function parseStatus(head: string): number | undefined {
  const [, status] = /^HTTP\/1\.[01] ([1-5][0-9]{2})[ \r\n]/.exec(head) ?? [];
  return status === undefined || !head.includes("\n") ? undefined : Number(status);
}

async function probeTcp(port: number, signal: AbortSignal): Promise<ProbeResult> {
  const socket = await dial(port, signal);
  leaveGently(socket.resume().end());
  return { healthy: true, detail: "connected" };
}

/** Connects to a port of this machine. */
/** Errors after the connection was made are the end of the probe, which reads or leaves. */
async function dial(port: number, signal: AbortSignal): Promise<Socket> {
  const socket = await openSocket({ host: LOOPBACK, port }, signal);
  return socket.on("error", () => socket.destroy());
}

/**
 * Reads what the service still sends instead of closing over it: that would reset the connection, and a service that
 * greets first and does not expect a reset would die of its own health check.
 */
function leaveGently(socket: Socket): void {
  const timer = setTimeout(() => socket.destroy(), LEAVE_MS);
  socket.once("close", () => clearTimeout(timer));
}
