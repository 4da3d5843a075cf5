import { expect, test } from "vitest";

import type { ServiceProcess } from "../../enclave/service-process.ts";
import { advance, isSettled, NEXT, type ServiceState, StateCell } from "../../enclave/service-state.ts";
import type { ServiceStateName } from "../../wire/control.ts";
import { isKitError } from "./kit-error.ts";

const NAMES = Object.keys(NEXT) as ServiceStateName[];
const started: ServiceProcess = {
  pid: 1,
  executed: Promise.resolve(true),
  ended: new Promise(() => undefined),
  kill: () => undefined,
};

function stateNamed(name: ServiceStateName): ServiceState {
  if (name === "waiting") return { name, reason: null };
  if (name === "running") return { name, process: started, sinceMs: 0 };
  if (name === "starting" || name === "stopping") return { name, process: started };
  if (name === "backoff" || name === "crash_loop") return { name, reason: "exited(1)", delayMs: 1 };
  return { name, reason: "exited(0)" };
}

/** Written out a second time, in another form, so that a slip in the table shows. */
const ALLOWED = new Set([
  "waiting>starting",
  "waiting>blocked",
  "waiting>stopped",
  "starting>running",
  "starting>stopping",
  "starting>failed",
  "starting>backoff",
  "starting>crash_loop",
  "running>stopping",
  "running>exited",
  "running>failed",
  "running>backoff",
  "running>crash_loop",
  "stopping>stopped",
  "backoff>starting",
  "backoff>stopped",
  "crash_loop>starting",
  "crash_loop>stopped",
  "exited>waiting",
  "failed>waiting",
  "stopped>waiting",
  "blocked>waiting",
]);
const PAIRS = NAMES.flatMap((from) => NAMES.map((to) => [from, to] as const));

test.each(PAIRS)("%s to %s is allowed or refused as the table says", (from, to) => {
  const change = (): ServiceState => advance(stateNamed(from), stateNamed(to));
  if (ALLOWED.has(`${from}>${to}`)) expect(change().name).toBe(to);
  else expect(change).toThrow(isKitError("E_SERVICE_TRANSITION"));
});

test("from every state a service can be brought to rest and started again", () => {
  const reach = (from: ServiceStateName): Set<ServiceStateName> => {
    const seen = new Set<ServiceStateName>([from]);
    for (const name of seen) for (const next of NEXT[name]) seen.add(next);
    return seen;
  };
  for (const name of NAMES) expect([...reach(name)].sort()).toEqual([...NAMES].sort());
  expect(NAMES.filter((name) => isSettled(stateNamed(name))).sort()).toEqual([
    "blocked",
    "exited",
    "failed",
    "stopped",
  ]);
});

test("timers of a state end with it, and a refused change leaves everything as it was", () => {
  const cell = new StateCell();
  const ended: string[] = [];
  cell.onExit(() => ended.push("waiting"));
  expect(() => cell.enter(stateNamed("running"))).toThrow(isKitError("E_SERVICE_TRANSITION"));
  expect([cell.current.name, ended]).toEqual(["waiting", []]);
  cell.enter(stateNamed("starting"));
  cell.onExit(() => ended.push("starting"));
  expect(ended).toEqual(["waiting"]);
  cell.explainWait("has no effect outside of waiting");
  expect(cell.current).toEqual(stateNamed("starting"));
  cell.enter(stateNamed("running"));
  expect(ended).toEqual(["waiting", "starting"]);
});
