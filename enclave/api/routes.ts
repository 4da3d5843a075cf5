/** The control API as a table: what the gateway serves (control-api.ts) and what docs/openapi.json describes. */
import { z } from "zod";

import { MAX_RELOAD_BYTES } from "../../wire/control.ts";
import {
  ArchiveSummarySchema,
  EnclaveStatsSchema,
  EnclaveStatusSchema,
  EventEntrySchema,
  ExecRequestSchema,
  ExecStatusSchema,
  LogItemSchema,
  ReloadRequestSchema,
  ReloadResultSchema,
  ServiceListSchema,
  ServiceStatusSchema,
  SignalRequestSchema,
  TerminalSizeSchema,
} from "../../wire/control-schemas.ts";
import { NetworkReportSchema } from "../../wire/network-schemas.ts";

export interface ControlRoute {
  readonly method: "GET" | "POST" | "PUT";
  /** With `:name` for parameters. */
  readonly path: string;
  readonly summary: string;
  readonly query?: z.ZodType;
  /** JSON unless `bodyType` says otherwise. */
  readonly body?: z.ZodType;
  readonly bodyType?: "application/x-tar";
  /** 4 KiB unless told; undefined bytes for a body that is streamed. */
  readonly maxBodyBytes?: number;
  readonly status: 101 | 200 | 201 | 202 | 204;
  readonly answer?: z.ZodType;
  /** JSON unless told. */
  readonly answerType?: "application/x-ndjson" | "application/x-tar" | "enclave-stream";
}

const count = (maximum: number) =>
  z
    .string()
    .regex(/^(0|[1-9][0-9]{0,15})$/, "must be a number")
    .transform(Number)
    .pipe(z.number().max(maximum));
const flag = z.enum(["true", "false"]).transform((text) => text === "true");
const name = z.string().min(1).max(64);
const names = z
  .union([name.transform((one) => [one]), z.array(name).max(256)])
  .describe("may be given several times");
const path = z
  .string()
  .regex(/^\/[^\0]*$/, "must be an absolute path")
  .max(4096);

export const EventsQuery = z.strictObject({
  after: count(Number.MAX_SAFE_INTEGER).default(0),
  follow: flag.default(true),
});
export const LogsQuery = z.strictObject({
  service: names.exactOptional(),
  after: count(Number.MAX_SAFE_INTEGER).default(0),
  since: count(Number.MAX_SAFE_INTEGER).exactOptional(),
  tail: count(1_000_000).exactOptional(),
  follow: flag.default(false),
});
export const StatsQuery = z.strictObject({
  intervalMs: count(60_000).pipe(z.number().min(100)).exactOptional(),
});
export const ArchiveQuery = z.strictObject({ path });
export const ExecQuery = z.strictObject({ wait: flag.default(false) });
export const ExecStart = z.strictObject({
  rows: TerminalSizeSchema.shape.rows.default(24),
  columns: TerminalSizeSchema.shape.columns.default(80),
});

const SERVICE = "/v1/services/:name";

export const CONTROL_ROUTES = {
  status: {
    method: "GET",
    path: "/v1/status",
    summary: "The enclave and its services",
    status: 200,
    answer: EnclaveStatusSchema,
  },
  services: {
    method: "GET",
    path: "/v1/services",
    summary: "All services",
    status: 200,
    answer: ServiceListSchema,
  },
  service: { method: "GET", path: SERVICE, summary: "One service", status: 200, answer: ServiceStatusSchema },
  startService: {
    method: "POST",
    path: `${SERVICE}/start`,
    summary: "Starts a service that ended; what it depends on is awaited first",
    status: 200,
    answer: ServiceStatusSchema,
  },
  stopService: {
    method: "POST",
    path: `${SERVICE}/stop`,
    summary: "Stops a service; answers when it has ended",
    status: 200,
    answer: ServiceStatusSchema,
  },
  restartService: {
    method: "POST",
    path: `${SERVICE}/restart`,
    summary: "Stops a service and starts it again; those that depend on it go on",
    status: 200,
    answer: ServiceStatusSchema,
  },
  attachService: {
    method: "POST",
    path: `${SERVICE}/attach`,
    summary: "What a service prints from now on, as frames; needs Upgrade: enclave-stream",
    status: 101,
    answerType: "enclave-stream",
  },
  reload: {
    method: "POST",
    path: "/v1/reload",
    summary: "Takes over other services, or the image's own if none are given; unchanged ones go on",
    body: ReloadRequestSchema,
    maxBodyBytes: MAX_RELOAD_BYTES,
    status: 200,
    answer: ReloadResultSchema,
  },
  events: {
    method: "GET",
    path: "/v1/events",
    summary: "Changes since the start, then as they come",
    query: EventsQuery,
    status: 200,
    answer: EventEntrySchema,
    answerType: "application/x-ndjson",
  },
  logs: {
    method: "GET",
    path: "/v1/logs",
    summary: "Lines that services printed",
    query: LogsQuery,
    status: 200,
    answer: LogItemSchema,
    answerType: "application/x-ndjson",
  },
  stats: {
    method: "GET",
    path: "/v1/stats",
    summary: "What services and machine use; with intervalMs one sample after the other",
    query: StatsQuery,
    status: 200,
    answer: EnclaveStatsSchema,
  },
  network: {
    method: "GET",
    path: "/v1/network",
    summary: "Listeners, connections, figures and denials of the enclave's side",
    status: 200,
    answer: NetworkReportSchema,
  },
  createExec: {
    method: "POST",
    path: "/v1/exec",
    summary: "Makes a session for a command; development only",
    body: ExecRequestSchema,
    maxBodyBytes: 256 * 1024,
    status: 201,
    answer: ExecStatusSchema,
  },
  startExec: {
    method: "POST",
    path: "/v1/exec/:id/start",
    summary: "Starts the command; the connection becomes its input and output; needs Upgrade: enclave-stream",
    body: ExecStart,
    status: 101,
    answerType: "enclave-stream",
  },
  exec: {
    method: "GET",
    path: "/v1/exec/:id",
    summary: "How a command does; with wait=true when it has ended, or after half a minute",
    query: ExecQuery,
    status: 200,
    answer: ExecStatusSchema,
  },
  resizeExec: {
    method: "POST",
    path: "/v1/exec/:id/resize",
    summary: "New size of the terminal",
    body: TerminalSizeSchema,
    status: 204,
  },
  signalExec: {
    method: "POST",
    path: "/v1/exec/:id/signal",
    summary: "Sends a signal to the command",
    body: SignalRequestSchema,
    status: 204,
  },
  getArchive: {
    method: "GET",
    path: "/v1/archive",
    summary: "A file or directory as a tar archive; development only",
    query: ArchiveQuery,
    status: 200,
    answerType: "application/x-tar",
  },
  putArchive: {
    method: "PUT",
    path: "/v1/archive",
    summary: "Unpacks a tar archive at a path; development only",
    query: ArchiveQuery,
    bodyType: "application/x-tar",
    status: 200,
    answer: ArchiveSummarySchema,
  },
  poweroff: {
    method: "POST",
    path: "/v1/poweroff",
    summary: "Stops services in order, then ends the machine",
    status: 202,
  },
} as const satisfies Readonly<Record<string, ControlRoute>>;

export type OperationName = keyof typeof CONTROL_ROUTES;
