/** Client of the control API of one enclave (wire/control.ts). Nothing that comes from it is believed unchecked. */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";

import { withDeadline } from "../core/deadline.ts";
import type { ArchiveSummary } from "../wire/archive-report.ts";
import type {
  EnclaveStats,
  EnclaveStatus,
  EventEntry,
  ExecRequest,
  ExecStatus,
  LogEntry,
  LogGap,
  ReloadOverrides,
  ReloadResult,
  ServiceStatus,
} from "../wire/control.ts";
import type { NetworkReport } from "../wire/network-report.ts";
import { NetworkReportSchema } from "../wire/network-schemas.ts";
import {
  EnclaveStatsSchema,
  EnclaveStatusSchema,
  EventEntrySchema,
  ExecStatusSchema,
  LogItemSchema,
  ReloadResultSchema,
  ServiceListSchema,
  ServiceStatusSchema,
} from "../wire/control-schemas.ts";
import type { TerminalSize } from "../wire/session-frames.ts";
import { type AnswerSchema, readJson, readLines, readRefusal } from "./answer-body.ts";
import { getArchive, putArchive } from "./archive-transfer.ts";
import { type Dial, sendRequest } from "./control-request.ts";
import { upgradeConnection } from "./upgrade-request.ts";

const REQUEST_TIMEOUT_MS = 15_000;
/** Services may take their grace period to stop. */
const ACT_TIMEOUT_MS = 3_600_000;
/** Longest wait of the enclave for the end of a command, and what the answer needs. */
const WAIT_TIMEOUT_MS = 45_000;

export type ServiceAct = "start" | "stop" | "restart";

export interface LogsQuery {
  /** Absent: all. */
  readonly services?: readonly string[];
  /** Milliseconds since the epoch. */
  readonly since?: number;
  readonly tail?: number;
  readonly follow: boolean;
}

export class ControlClient {
  readonly #dial: Dial;

  constructor(dial: Dial) {
    this.#dial = dial;
  }

  async status(signal: AbortSignal): Promise<EnclaveStatus> {
    return await this.#ask("GET", "/v1/status", { schema: EnclaveStatusSchema, signal });
  }

  async services(signal: AbortSignal): Promise<readonly ServiceStatus[]> {
    return (await this.#ask("GET", "/v1/services", { schema: ServiceListSchema, signal })).services;
  }

  /** @throws E_SERVICE_UNKNOWN */
  async service(name: string, signal: AbortSignal): Promise<ServiceStatus> {
    return await this.#ask("GET", servicePath(name), { schema: ServiceStatusSchema, signal });
  }

  /** Stop and restart answer when the service has stopped. @throws E_SERVICE_UNKNOWN, E_ENCLAVE_STOPPING */
  async act(name: string, act: ServiceAct, signal: AbortSignal): Promise<ServiceStatus> {
    const path = `${servicePath(name)}/${act}`;
    return await this.#ask("POST", path, { schema: ServiceStatusSchema, signal, timeoutMs: ACT_TIMEOUT_MS });
  }

  /**
   * @param overrides of development; what they lack is the image's own
   * @throws E_ENCLAVE_CONFIG, E_ENCLAVE_STOPPING
   */
  async reload(overrides: ReloadOverrides, signal: AbortSignal): Promise<ReloadResult> {
    const options = { schema: ReloadResultSchema, signal, timeoutMs: ACT_TIMEOUT_MS, body: overrides };
    return await this.#ask("POST", "/v1/reload", options);
  }

  /** Ends the machine, once its services have stopped. */
  async poweroff(signal: AbortSignal): Promise<void> {
    await this.#tell("/v1/poweroff", { status: 202, signal });
  }

  /** What happened so far; with `follow` also what will, until the enclave ends. */
  async *events(follow: boolean, signal: AbortSignal): AsyncGenerator<readonly EventEntry[]> {
    yield* this.#stream(`/v1/events?follow=${follow}`, EventEntrySchema, { follow, signal });
  }

  async *logs(query: LogsQuery, signal: AbortSignal): AsyncGenerator<readonly (LogEntry | LogGap)[]> {
    const { services = [], since, tail, follow } = query;
    const search = new URLSearchParams([
      ...services.map((name) => ["service", name]),
      ...(since === undefined ? [] : [["since", String(Math.round(since))]]),
      ...(tail === undefined ? [] : [["tail", String(tail)]]),
      ["follow", String(follow)],
    ]);
    yield* this.#stream(`/v1/logs?${search.toString()}`, LogItemSchema, { follow, signal });
  }

  async stats(signal: AbortSignal): Promise<EnclaveStats> {
    return await this.#ask("GET", "/v1/stats", { schema: EnclaveStatsSchema, signal });
  }

  /** The enclave's side of its network. */
  async network(signal: AbortSignal): Promise<NetworkReport> {
    return await this.#ask("GET", "/v1/network", { schema: NetworkReportSchema, signal });
  }

  /** A sample every `intervalMs` (100 to 60000), until the enclave ends. */
  async *statsStream(intervalMs: number, signal: AbortSignal): AsyncGenerator<EnclaveStats> {
    const path = `/v1/stats?intervalMs=${intervalMs}`;
    for await (const batch of this.#stream(path, EnclaveStatsSchema, { follow: true, signal })) yield* batch;
  }

  /** Makes a session; `startExec` runs it. @throws E_SERVICE_UNKNOWN, E_CONTROL_BUSY */
  async createExec(request: ExecRequest, signal: AbortSignal): Promise<ExecStatus> {
    const options = { schema: ExecStatusSchema, signal, body: request, status: 201 };
    return await this.#ask("POST", "/v1/exec", options);
  }

  /** Starts the command; the connection is its stream (control/exec-session.ts) and the caller's. */
  async startExec(id: number, size: TerminalSize | undefined, signal: AbortSignal): Promise<Socket> {
    const path = `/v1/exec/${id}/start`;
    return await upgradeConnection(this.#dial, {
      path,
      body: { ...size },
      signal,
      timeoutMs: WAIT_TIMEOUT_MS,
    });
  }

  /** How the command ended; `running` if it has not within half a minute. */
  async waitExec(id: number, signal: AbortSignal): Promise<ExecStatus> {
    const options = { schema: ExecStatusSchema, signal, timeoutMs: WAIT_TIMEOUT_MS };
    return await this.#ask("GET", `/v1/exec/${id}?wait=true`, options);
  }

  async resizeExec(id: number, size: TerminalSize, signal: AbortSignal): Promise<void> {
    await this.#tell(`/v1/exec/${id}/resize`, { status: 204, signal, body: size });
  }

  /** @param name such as SIGTERM */
  async signalExec(id: number, name: string, signal: AbortSignal): Promise<void> {
    await this.#tell(`/v1/exec/${id}/signal`, { status: 204, signal, body: { signal: name } });
  }

  /** What the service prints from now on, as frames, until one side ends; the caller owns the connection. */
  async attach(name: string, signal: AbortSignal): Promise<Socket> {
    const path = `${servicePath(name)}/attach`;
    return await upgradeConnection(this.#dial, { path, body: {}, signal, timeoutMs: REQUEST_TIMEOUT_MS });
  }

  /** See control/archive-transfer.ts. @throws E_ARCHIVE_* */
  async getArchive(path: string, signal: AbortSignal): Promise<Readable> {
    return await getArchive(this.#dial, path, signal);
  }

  /** See control/archive-transfer.ts. @throws E_ARCHIVE_* */
  async putArchive(
    path: string,
    send: (output: Writable) => Promise<void>,
    signal: AbortSignal,
  ): Promise<ArchiveSummary> {
    return await putArchive(this.#dial, path, { send, signal });
  }

  async #ask<T>(method: "GET" | "POST", path: string, options: AskOptions<T>): Promise<T> {
    const { schema, status = 200 } = options;
    const what = `${method} ${path.split("?", 1)[0] ?? ""}`;
    const response = await this.#send(method, path, options);
    if (response.statusCode !== status) throw await readRefusal(response, what);
    return await readJson(response, what, schema);
  }

  async #tell(path: string, options: TellOptions): Promise<void> {
    const response = await this.#send("POST", path, options);
    if (response.statusCode !== options.status) throw await readRefusal(response, `POST ${path}`);
    response.destroy();
  }

  async #send(method: "GET" | "POST", path: string, options: SendOptions): Promise<IncomingMessage> {
    const { timeoutMs = REQUEST_TIMEOUT_MS, body } = options;
    const signal = withDeadline(options.signal, timeoutMs);
    return await sendRequest(this.#dial, { method, path, body, signal, headTimeoutMs: timeoutMs });
  }

  async *#stream<T>(
    path: string,
    schema: AnswerSchema<T>,
    { follow, signal }: { readonly follow: boolean; readonly signal: AbortSignal },
  ): AsyncGenerator<readonly T[]> {
    const what = `GET ${path.split("?", 1)[0] ?? ""}`;
    const options = { method: "GET", path, signal, headTimeoutMs: REQUEST_TIMEOUT_MS } as const;
    const response = await sendRequest(this.#dial, options);
    if (response.statusCode !== 200) throw await readRefusal(response, what);
    yield* readLines(response, what, { schema, ...(follow ? {} : { idleTimeoutMs: REQUEST_TIMEOUT_MS }) });
  }
}

interface SendOptions {
  readonly signal: AbortSignal;
  readonly timeoutMs?: number;
  readonly body?: unknown;
}

interface AskOptions<T> extends SendOptions {
  readonly schema: AnswerSchema<T>;
  readonly status?: number;
}

interface TellOptions extends SendOptions {
  readonly status: number;
}

function servicePath(name: string): string {
  return `/v1/services/${encodeURIComponent(name)}`;
}
