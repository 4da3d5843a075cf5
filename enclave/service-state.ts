/**
 * The states of a service and the changes between them. Each state carries exactly what it needs.
 *
 *   waiting ─▶ starting ─▶ running ─▶ exited | failed          the process ended, the policy says no more
 *      │          │           ├─────▶ backoff | crash_loop ─▶ starting
 *      │          │           └─────▶ stopping ─▶ stopped
 *      │          ├─▶ failed | backoff | crash_loop            it could not be executed
 *      │          └─▶ stopping
 *      ├─▶ blocked                                             a dependency failed for good
 *      └─▶ stopped                                             also from backoff and crash_loop
 *
 *   exited, failed, stopped, blocked ─▶ waiting                an operator starts it again
 */
import { KitError } from "../core/errors.ts";
import type { ServiceStateName } from "../wire/control.ts";
import type { ServiceProcess } from "./service-process.ts";

export type ServiceState =
  | { readonly name: "waiting"; readonly reason: string | null }
  | { readonly name: "starting"; readonly process: ServiceProcess }
  | { readonly name: "running"; readonly process: ServiceProcess; readonly sinceMs: number }
  | { readonly name: "stopping"; readonly process: ServiceProcess }
  | { readonly name: "exited" | "failed" | "stopped" | "blocked"; readonly reason: string }
  | { readonly name: "backoff" | "crash_loop"; readonly reason: string; readonly delayMs: number };

export const NEXT: Readonly<Record<ServiceStateName, readonly ServiceStateName[]>> = {
  waiting: ["starting", "blocked", "stopped"],
  starting: ["running", "stopping", "failed", "backoff", "crash_loop"],
  running: ["stopping", "exited", "failed", "backoff", "crash_loop"],
  stopping: ["stopped"],
  backoff: ["starting", "stopped"],
  crash_loop: ["starting", "stopped"],
  exited: ["waiting"],
  failed: ["waiting"],
  stopped: ["waiting"],
  blocked: ["waiting"],
};

/** `to`, if the table allows it after `from`. @throws E_SERVICE_TRANSITION */
export function advance(from: ServiceState, to: ServiceState): ServiceState {
  if (NEXT[from.name].includes(to.name)) return to;
  throw new KitError("E_SERVICE_TRANSITION", `a service cannot go from ${from.name} to ${to.name}`);
}

/** The process of the states that have one. */
export function processOf(state: ServiceState): ServiceProcess | undefined {
  return "process" in state ? state.process : undefined;
}

/** True if nothing happens any more unless an operator acts. */
export function isSettled(state: ServiceState): boolean {
  return (
    state.name === "exited" || state.name === "failed" || state.name === "stopped" || state.name === "blocked"
  );
}

/** Holds the state of one service. Timers belong to the state in which they were set and end with it. */
export class StateCell {
  #state: ServiceState = { name: "waiting", reason: null };
  #onExit: (() => void)[] = [];

  get current(): ServiceState {
    return this.#state;
  }

  enter(next: ServiceState): void {
    this.#state = advance(this.#state, next);
    for (const stop of this.#onExit.splice(0)) stop();
  }

  /** Replaces the reason to wait; no change of state. */
  explainWait(reason: string): void {
    if (this.#state.name === "waiting") this.#state = { name: "waiting", reason };
  }

  /** Runs `stop` when the current state ends. */
  onExit(stop: () => void): void {
    this.#onExit.push(stop);
  }
}
