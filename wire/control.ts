/**
 * Shapes of the control API: what the gateway serves on vsock 9001 and what the supervisor tells the gateway. The routes
 * with their parameters are in docs/openapi.json, which is made from enclave/control-routes.ts; wire/control-schemas.ts
 * holds the same shapes as schemas, for those who read bytes from the other side.
 *
 * Errors: HTTP status with a JSON body of core/errors.ts ErrorJson.
 */

import type { AttestationReport } from "./attestation-server.ts";
import type { TrafficCounts } from "./network-report.ts";

/** See enclave/service-state.ts for the transitions. */
export type ServiceStateName =
  | "waiting" // for the services it depends on
  | "starting" // process spawned, not yet known to have executed
  | "running"
  | "stopping"
  | "exited" // ended and not to be restarted: status 0, or restart policy says no
  | "failed" // ended with a fault and not to be restarted
  | "backoff" // waits before the next start
  | "crash_loop" // restarted too often; still retried, at the longest delay
  | "stopped" // by an operator or at shutdown
  | "blocked"; // a dependency failed, so it will never start

export type HealthName = "none" | "starting" | "healthy" | "unhealthy";

export type LimitName = "memory" | "pids" | "cpus" | "cpu_time" | "run_time" | "output";

/** A limit that the configuration sets. */
export interface LimitStatus {
  readonly name: LimitName;
  /** Bytes, processes, CPUs, or milliseconds, as the name has it. */
  readonly value: number;
  readonly enforced: boolean;
  /** Why it is not enforced, else null. */
  readonly why: string | null;
}

export interface ServiceStatus {
  readonly name: string;
  readonly state: ServiceStateName;
  /** Process id inside the enclave, while one runs. */
  readonly pid: number | null;
  readonly restarts: number;
  readonly health: HealthName;
  /** Output of the last failed health check, at most 256 characters. */
  readonly healthDetail: string | null;
  /** Milliseconds since the epoch of the last start. */
  readonly startedAt: number | null;
  /**
   * How the last process ended, or which limit the present one has hit: `exited(1)`, `crashed(SIGSEGV)`,
   * `memory_exceeded`, `pids_exceeded`, `cpu_exceeded`, `wall_clock_exceeded`, `output_exceeded`, `syscall_denied`,
   * `stopped_by_operator`, `not executed: ...`.
   */
  readonly reason: string | null;
  /** Name and uid under which it runs. */
  readonly user: { readonly name: string; readonly uid: number };
  /** Null if it is kept apart from the enclave and from every other service, else why it is not. */
  readonly notIsolated: string | null;
  readonly limits: readonly LimitStatus[];
}

/** The attestation server: its process, and what it says about itself. */
export interface AttestationStatus extends AttestationReport {
  readonly pid: number | null;
  readonly restarts: number;
}

export interface EnclaveStatus {
  readonly name: string;
  readonly mode: "development" | "production";
  readonly attestation: "nitro" | "development";
  readonly supervisor: {
    readonly pid: number;
    /** Times init had to start it again. */
    readonly restarts: number;
    /** How the supervisor before this one ended, or null. */
    readonly previousExit: string | null;
  };
  readonly gateway: { readonly pid: number | null; readonly restarts: number };
  readonly attestationServer: AttestationStatus;
  /** False where every process shares one uid, so services are not kept apart. */
  readonly isolated: boolean;
  readonly stopping: boolean;
  /** True while development overrides are in force instead of the image's own services. */
  readonly overridden: boolean;
  readonly services: readonly ServiceStatus[];
}

/** One change. `seq` rises by one within a generation of the supervisor. */
export interface EventEntry {
  readonly seq: number;
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly type: "service" | "enclave";
  /** Service name for type service. */
  readonly service: string | null;
  /** One line: `running`, `healthy`, `backoff: exited(1)`, ... */
  readonly message: string;
}

export interface LogEntry {
  readonly seq: number;
  readonly time: number;
  readonly service: string;
  readonly stream: "stdout" | "stderr";
  /** One line without its newline, at most MAX_LOG_LINE_BYTES; invalid UTF-8 is replaced. */
  readonly line: string;
  /** True where the line went on past the limit and continues in the next entry. */
  readonly partial?: true;
}

/** Entries that were overwritten before the reader came. */
export interface LogGap {
  readonly dropped: number;
}

/** What something uses now; null where the machine cannot tell. */
export interface Usage {
  /** CPU time used since its start, in microseconds. */
  readonly cpuUsec: number | null;
  /** Without page cache that could be given back. */
  readonly memoryBytes: number | null;
  readonly memoryLimitBytes: number | null;
  readonly pids: number | null;
  readonly pidsLimit: number | null;
}

export interface ServiceUsage extends Usage {
  readonly name: string;
  /** Bytes printed since its start. */
  readonly outputBytes: number;
}

export interface UsageReport {
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly machine: Usage;
  readonly services: readonly ServiceUsage[];
}

/** One sample. Rates are differences between two. */
export interface EnclaveStats extends UsageReport {
  /** Of the gateway that runs now. */
  readonly network: { readonly ingress: TrafficCounts; readonly egress: TrafficCounts };
}

/** What a reload asks for, as wire/enclave-config.ts has it; absent parts are the image's own. */
export interface ReloadOverrides {
  readonly services?: readonly unknown[];
  readonly egress?: unknown;
}

/** What `reload` did. */
export interface ReloadResult {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  readonly changed: readonly string[];
  readonly unchanged: readonly string[];
}

/** A command to be run beside the services; development only. */
export interface ExecRequest {
  /** Program and arguments; at least the program. */
  readonly command: readonly string[];
  /** Run as this service does: user, environment, directory, confinement, limits. Absent: as root of the enclave. */
  readonly service?: string;
  /** `name` or `uid`, `uid:gid`; absent: that of the service, or root. */
  readonly user?: string;
  /** Added to the environment of the service, or to a plain one. */
  readonly environment?: Readonly<Record<string, string>>;
  readonly workingDir?: string;
  /** A terminal; its output is one stream. */
  readonly tty?: boolean;
}

/** An exec session. */
export interface ExecStatus {
  readonly id: number;
  readonly state: "created" | "running" | "ended";
  readonly pid: number | null;
  /** Exit status of an ended one; 128 + signal number if a signal ended it; 126 or 127 if it could not be executed. */
  readonly exitCode: number | null;
  /** `exited(0)`, `crashed(SIGKILL)`, `not executed: ...`; null while it runs. */
  readonly reason: string | null;
}

/**
 * Frames of an exec stream without a terminal, from the enclave to the client, as the Docker Engine API has them:
 * u8 stream (1 stdout, 2 stderr), three zero bytes, u32 big-endian length, then that many bytes (at most 64 KiB).
 */
export const EXEC_STREAM = { stdout: 1, stderr: 2 } as const;
export const EXEC_FRAME_HEADER_BYTES = 8;
export const MAX_EXEC_FRAME_BYTES = 64 * 1024;

export const MAX_LOG_LINE_BYTES = 16 * 1024;
/** Largest body of a reload. */
export const MAX_RELOAD_BYTES = 512 * 1024;
