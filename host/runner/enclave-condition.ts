/** From what is known of an enclave to its one state and reason. Pure. */
import { constants } from "node:os";

import type { InitLine } from "../../wire/init-line.ts";
import type { MachineExit } from "../backends/backend.ts";
import type { EnclaveState, ServiceRecord } from "../state/enclave-record.ts";
import type { ToldStatus } from "./status-decoder.ts";

export interface EnclaveFacts {
  /** init said `ready`. */
  readonly ready: boolean;
  /** False where the control API is closed and only `ready` tells. */
  readonly tellsStatus: boolean;
  readonly status: ToldStatus | undefined;
  /** Everything was healthy once. */
  readonly wasHealthy: boolean;
  /** Somebody asked for the stop. */
  readonly stopAsked: boolean;
  readonly end: Extract<InitLine, { kind: "end" }> | undefined;
  readonly exit: MachineExit | undefined;
}

export interface Condition {
  readonly state: EnclaveState;
  readonly reason: string | null;
}

export function describeCondition(facts: EnclaveFacts): Condition {
  if (facts.exit !== undefined) return describeEnd(facts, facts.exit);
  if (facts.stopAsked) return { state: "stopping", reason: null };
  if (!facts.ready) return { state: "starting", reason: null };
  if (!facts.tellsStatus) return { state: "running", reason: null };
  const services = facts.status?.services ?? [];
  const failing = services.find(isFailing);
  if (failing !== undefined) {
    return { state: facts.wasHealthy ? "unhealthy" : "starting", reason: describeService(failing) };
  }
  const settled = facts.status !== undefined && services.every(isSettled);
  return {
    state: settled || facts.wasHealthy ? "running" : "starting",
    reason: describeRestarts(facts.status),
  };
}

/** Runs and is healthy where it has a check, or has done its work. */
export function isSettled(service: ServiceRecord): boolean {
  if (service.state === "exited") return true;
  return service.state === "running" && (service.health === "none" || service.health === "healthy");
}

/** Will not become settled by waiting. */
export function isFailing(service: ServiceRecord): boolean {
  return ["failed", "crash_loop", "blocked"].includes(service.state) || service.health === "unhealthy";
}

export function describeService(service: ServiceRecord): string {
  const what = service.health === "unhealthy" && service.state === "running" ? "unhealthy" : service.state;
  return `service ${service.name}: ${what}${service.reason === null ? "" : `: ${service.reason}`}`;
}

function describeRestarts(status: ToldStatus | undefined): string | null {
  if (status === undefined) return null;
  const { supervisor, gateway } = status;
  if (supervisor.restarts > 0) {
    return `supervisor ${supervisor.previousExit ?? "ended"}, restarted ${times(supervisor.restarts)}`;
  }
  return gateway.restarts > 0 ? `gateway restarted ${times(gateway.restarts)}` : null;
}

function times(count: number): string {
  return count === 1 ? "1 time" : `${count} times`;
}

function describeEnd({ stopAsked, end }: EnclaveFacts, exit: MachineExit): Condition {
  // init can only tell what it missed; that the image did not fit is why.
  if (exit.error?.code === "E_QEMU_MEMORY") return { state: "failed", reason: exit.error.message };
  if (end?.code === "poweroff" && exit.status === 0)
    return { state: "stopped", reason: stopAsked ? null : end.reason };
  if (end !== undefined) return { state: "failed", reason: `${end.code}: ${end.reason}` };
  if (stopAsked && exit.status === 0 && exit.error === undefined) return { state: "stopped", reason: null };
  return describeSilentEnd(stopAsked, exit);
}

/** init said nothing before it went. */
function describeSilentEnd(stopAsked: boolean, exit: MachineExit): Condition {
  if (exit.error !== undefined)
    return { state: stopAsked ? "stopped" : "failed", reason: exit.error.message };
  const how = exit.signal ?? signalOf(exit.status);
  if (stopAsked && how === "SIGKILL") return { state: "stopped", reason: "killed: it did not stop in time" };
  if (how !== undefined) return { state: "failed", reason: `init killed by ${how}` };
  return { state: "failed", reason: `init ended with status ${exit.status ?? -1}` };
}

/** The launcher ends with 128 + signal when init was killed by one. */
function signalOf(status: number | null): string | undefined {
  return Object.entries(constants.signals).find(([, number]) => status === 128 + number)?.[0];
}
