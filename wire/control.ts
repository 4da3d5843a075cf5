/**
 * Shapes of the control API: what the gateway serves on vsock 9001 and what the supervisor tells the gateway.
 *
 *   GET  /v1/status                                     -> EnclaveStatus
 *   GET  /v1/events?after=SEQ                           -> NDJSON of EventEntry, never ends
 *   GET  /v1/logs?service=a&service=b&after=SEQ&tail=N&follow=true
 *                                                       -> NDJSON of LogEntry or LogGap
 *   POST /v1/poweroff                                   -> 202; services stop in order, then the machine ends
 *
 * Errors: HTTP status with a JSON body of core/errors.ts ErrorJson.
 */

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
  /** How the last process ended: `exited(1)`, `crashed(SIGSEGV)`, `stopped_by_operator`, `not executed: ...`. */
  readonly reason: string | null;
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
  /** False where every process shares one uid, so services are not kept apart. */
  readonly isolated: boolean;
  readonly stopping: boolean;
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

export const MAX_LOG_LINE_BYTES = 16 * 1024;
