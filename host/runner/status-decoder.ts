/** Decoders for what an enclave tells its runner, by hand: the runner stays small, and believes nothing. */
import { KitError } from "../../core/errors.ts";
import type {
  AttestationStatus,
  HealthName,
  LimitName,
  LimitStatus,
  ServiceStateName,
} from "../../wire/control.ts";
import type { ServiceRecord } from "../state/enclave-record.ts";
import type { HostLogEntry } from "./log-writer.ts";
import { toOneLine } from "./one-line.ts";

const STATES: readonly ServiceStateName[] = ["waiting", "starting", "running", "stopping", "exited", "failed", "backoff", "crash_loop", "stopped", "blocked"]; // prettier-ignore
const HEALTHS: readonly HealthName[] = ["none", "starting", "healthy", "unhealthy"];
const LIMITS: readonly LimitName[] = ["memory", "pids", "cpus", "cpu_time", "run_time", "output"];
const ATTESTATION_STATES = ["starting", "ready", "failed"] as const;
const MAX_SERVICES = 1024;
const MAX_TEXT = 1024;

export interface ToldStatus {
  readonly isolated: boolean;
  readonly stopping: boolean;
  readonly overridden: boolean;
  readonly supervisor: { readonly restarts: number; readonly previousExit: string | null };
  readonly gateway: { readonly restarts: number };
  readonly attestationServer: AttestationStatus;
  readonly services: readonly ServiceRecord[];
}

type Fields = Readonly<Record<string, unknown>>;

/** @throws E_HOST_CONTROL for anything that is no EnclaveStatus (wire/control.ts). */
export function decodeStatus(value: unknown): ToldStatus {
  const status = fieldsOf(value, "status");
  const supervisor = fieldsOf(status["supervisor"], "supervisor");
  const gateway = fieldsOf(status["gateway"], "gateway");
  const services = status["services"];
  if (!Array.isArray(services) || services.length > MAX_SERVICES) throw refusal("services");
  return {
    isolated: status["isolated"] === true,
    stopping: status["stopping"] === true,
    overridden: status["overridden"] === true,
    supervisor: {
      restarts: count(supervisor["restarts"]),
      previousExit: textOrNull(supervisor["previousExit"]),
    },
    gateway: { restarts: count(gateway["restarts"]) },
    attestationServer: decodeAttestation(fieldsOf(status["attestationServer"], "attestationServer")),
    services: services.map((service: unknown) => decodeService(fieldsOf(service, "service"))),
  };
}

function decodeAttestation(status: Fields): AttestationStatus {
  const { pid, reason } = status;
  const state = ATTESTATION_STATES.find((one) => one === status["state"]);
  if (state === undefined) throw refusal("state of the attestation server");
  return {
    pid: pid === null ? null : count(pid),
    restarts: count(status["restarts"]),
    state,
    reason: reason === null ? null : decodeReason(fieldsOf(reason, "reason")),
    documentTimeMs: timeOrNull(status["documentTimeMs"]),
    clockOffsetMs: timeOrNull(status["clockOffsetMs"]),
    clockJumps: count(status["clockJumps"]),
    certificateNotAfterMs: timeOrNull(status["certificateNotAfterMs"]),
  };
}

function decodeReason(reason: Fields): AttestationStatus["reason"] {
  return { code: text(reason["code"]), message: text(reason["message"]) };
}

function decodeService(service: Fields): ServiceRecord {
  const state = STATES.find((one) => one === service["state"]);
  const health = HEALTHS.find((one) => one === service["health"]);
  if (state === undefined || health === undefined) throw refusal("state or health of a service");
  const pid = service["pid"];
  return {
    name: text(service["name"]),
    state,
    pid: pid === null ? null : count(pid),
    restarts: count(service["restarts"]),
    health,
    reason:
      textOrNull(service["reason"]) ?? (health === "unhealthy" ? textOrNull(service["healthDetail"]) : null),
    notIsolated: textOrNull(service["notIsolated"]),
    limits: decodeLimits(service["limits"]),
  };
}

function decodeLimits(value: unknown): readonly LimitStatus[] {
  if (!Array.isArray(value) || value.length > LIMITS.length) throw refusal("limits of a service");
  return value.map((item: unknown) => {
    const limit = fieldsOf(item, "limit");
    const name = LIMITS.find((one) => one === limit["name"]);
    const amount = limit["value"];
    if (name === undefined || typeof amount !== "number" || !(amount > 0)) throw refusal("a limit");
    return { name, value: amount, enforced: limit["enforced"] === true, why: textOrNull(limit["why"]) };
  });
}

/** An entry of the log stream with its number, or the count of entries that were lost. @throws E_HOST_CONTROL */
export function decodeLogItem(
  value: unknown,
): { readonly seq: number; readonly entry: HostLogEntry } | { readonly dropped: number } {
  const item = fieldsOf(value, "log entry");
  if ("dropped" in item) return { dropped: count(item["dropped"]) };
  const { stream, line } = item;
  if ((stream !== "stdout" && stream !== "stderr") || typeof line !== "string")
    throw refusal("stream or line of a log entry");
  return {
    seq: count(item["seq"]),
    entry: { time: count(item["time"]), service: text(item["service"]), stream, line },
  };
}

function fieldsOf(value: unknown, what: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw refusal(what);
  return { ...value };
}

function count(value: unknown): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw refusal("a number");
  return value;
}

function timeOrNull(value: unknown): number | null {
  if (value === null) return null;
  if (typeof value !== "number" || !Number.isSafeInteger(value)) throw refusal("a time");
  return value;
}

function text(value: unknown): string {
  if (typeof value !== "string" || value.length > MAX_TEXT) throw refusal("a text");
  return toOneLine(value);
}

function textOrNull(value: unknown): string | null {
  return value === null || value === undefined ? null : text(value);
}

function refusal(what: string): KitError {
  return new KitError("E_HOST_CONTROL", `control API: ${what} is not as expected`);
}
