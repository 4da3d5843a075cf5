/**
 * The control API's shapes (wire/control.ts) as schemas, for everybody who reads them from the other side of a socket.
 * Texts and lists are bounded, and so is what they can cost.
 */
import { z } from "zod";

import type { ErrorJson } from "../core/errors.ts";
import { isErrorCode } from "../core/error-table.ts";
import type { ArchiveSummary } from "./archive-report.ts";
import type {
  AttestationStatus,
  EnclaveStats,
  EnclaveStatus,
  EventEntry,
  ExecRequest,
  ExecStatus,
  LimitStatus,
  LogEntry,
  LogGap,
  ReloadResult,
  ServiceStatus,
  Usage,
} from "./control.ts";
import { MAX_LOG_LINE_BYTES } from "./control.ts";
import { TrafficCountsSchema } from "./network-schemas.ts";

const MAX_SERVICES = 256;
const Count = z.int().min(0);
const Text = z.string().max(4096);
const Name = z.string().min(1).max(64);
const Word = z
  .string()
  .max(128 * 1024)
  .refine((text) => !text.includes("\0"), "contains a NUL character");

export const LimitStatusSchema = z.object({
  name: z.enum(["memory", "pids", "cpus", "cpu_time", "run_time", "output"]),
  value: z.number().positive(),
  enforced: z.boolean(),
  why: Text.nullable(),
}) satisfies z.ZodType<LimitStatus>;

export const ServiceStatusSchema = z.object({
  name: Name,
  state: z.enum(["waiting", "starting", "running", "stopping", "exited", "failed", "backoff", "crash_loop", "stopped", "blocked"]), // prettier-ignore
  pid: Count.nullable(),
  restarts: Count,
  health: z.enum(["none", "starting", "healthy", "unhealthy"]),
  healthDetail: Text.nullable(),
  startedAt: z.number().nullable(),
  reason: Text.nullable(),
  user: z.object({ name: z.string().max(256), uid: Count }),
  notIsolated: Text.nullable(),
  limits: z.array(LimitStatusSchema).max(16),
}) satisfies z.ZodType<ServiceStatus>;

export const ServiceListSchema = z.object({ services: z.array(ServiceStatusSchema).max(MAX_SERVICES) });

const Time = z.number().int();

export const AttestationStatusSchema = z.object({
  pid: Count.nullable(),
  restarts: Count,
  state: z.enum(["starting", "ready", "failed"]),
  reason: z.object({ code: z.string().max(64), message: Text }).nullable(),
  documentTimeMs: Time.nullable(),
  clockOffsetMs: Time.nullable(),
  clockJumps: Count,
  certificateNotAfterMs: Time.nullable(),
}) satisfies z.ZodType<AttestationStatus>;

export const EnclaveStatusSchema = z.object({
  name: Name,
  mode: z.enum(["development", "production"]),
  attestation: z.enum(["nitro", "development"]),
  supervisor: z.object({ pid: Count, restarts: Count, previousExit: Text.nullable() }),
  gateway: z.object({ pid: Count.nullable(), restarts: Count }),
  attestationServer: AttestationStatusSchema,
  isolated: z.boolean(),
  stopping: z.boolean(),
  overridden: z.boolean(),
  services: z.array(ServiceStatusSchema).max(MAX_SERVICES),
}) satisfies z.ZodType<EnclaveStatus>;

export const EventEntrySchema = z.object({
  seq: Count,
  time: z.number(),
  type: z.enum(["service", "enclave"]),
  service: Name.nullable(),
  message: Text,
}) satisfies z.ZodType<EventEntry>;

export const LogEntrySchema = z.object({
  seq: Count,
  time: z.number(),
  service: Name,
  stream: z.enum(["stdout", "stderr"]),
  line: z.string().max(MAX_LOG_LINE_BYTES),
  partial: z.literal(true).exactOptional(),
});
export const LogGapSchema = z.object({ dropped: Count }) satisfies z.ZodType<LogGap>;
/** One line of `GET /v1/logs`. */
export const LogItemSchema = z.union([LogGapSchema, LogEntrySchema]) satisfies z.ZodType<LogGap | LogEntry>;

const UsageSchema = z.object({
  cpuUsec: Count.nullable(),
  memoryBytes: Count.nullable(),
  memoryLimitBytes: Count.nullable(),
  pids: Count.nullable(),
  pidsLimit: Count.nullable(),
}) satisfies z.ZodType<Usage>;

export const EnclaveStatsSchema = z.object({
  time: z.number(),
  machine: UsageSchema,
  services: z.array(UsageSchema.extend({ name: Name, outputBytes: Count })).max(MAX_SERVICES),
  network: z.object({ ingress: TrafficCountsSchema, egress: TrafficCountsSchema }),
}) satisfies z.ZodType<EnclaveStats>;

const Names = z.array(Name).max(MAX_SERVICES);
export const ReloadResultSchema = z.object({
  added: Names,
  removed: Names,
  changed: Names,
  unchanged: Names,
}) satisfies z.ZodType<ReloadResult>;

export const ReloadRequestSchema = z.strictObject({
  services: z.array(z.record(z.string(), z.unknown())).max(MAX_SERVICES).exactOptional(),
  egress: z.record(z.string(), z.unknown()).exactOptional(),
});

export const ExecRequestSchema = z.strictObject({
  command: z.array(Word).min(1).max(1024),
  service: Name.exactOptional(),
  user: Name.exactOptional(),
  environment: z.record(z.string().regex(/^[^=\0]{1,256}$/), Word).exactOptional(),
  workingDir: z
    .string()
    .regex(/^\/[^\0]*$/)
    .max(4096)
    .exactOptional(),
  tty: z.boolean().exactOptional(),
}) satisfies z.ZodType<ExecRequest>;

export const ExecStatusSchema = z.object({
  id: z.int().min(1),
  state: z.enum(["created", "running", "ended"]),
  pid: Count.nullable(),
  exitCode: z.int().min(0).max(255).nullable(),
  reason: Text.nullable(),
}) satisfies z.ZodType<ExecStatus>;

export const TerminalSizeSchema = z.strictObject({
  rows: z.int().min(1).max(10_000),
  columns: z.int().min(1).max(10_000),
});
export const SignalRequestSchema = z.strictObject({ signal: z.string().regex(/^SIG[A-Z0-9]{1,12}$/) });

export const ErrorJsonSchema = z.object({
  code: z.string().refine(isErrorCode),
  message: Text,
  hint: Text,
  details: z.record(z.string(), z.unknown()),
}) satisfies z.ZodType<ErrorJson>;

/** Answer of `PUT /v1/archive`. */
export const ArchiveSummarySchema = z.object({
  entries: Count,
  bytes: Count,
}) satisfies z.ZodType<ArchiveSummary>;
