import { expect, test } from "vitest";

import { FIRST_REPORT } from "../../wire/attestation-server.ts";
import { describeCondition, type EnclaveFacts } from "../../host/runner/enclave-condition.ts";
import type { ServiceRecord } from "../../host/state/enclave-record.ts";

const service: ServiceRecord = {
  name: "web",
  state: "running",
  pid: 9,
  restarts: 0,
  health: "healthy",
  reason: null,
  notIsolated: null,
  limits: [],
};
const status = (change: Partial<ServiceRecord> = {}, supervisorRestarts = 0): EnclaveFacts["status"] => ({
  isolated: true,
  stopping: false,
  overridden: false,
  supervisor: {
    restarts: supervisorRestarts,
    previousExit: supervisorRestarts > 0 ? "killed(SIGKILL)" : null,
  },
  gateway: { restarts: 0 },
  attestationServer: { pid: 4, restarts: 0, ...FIRST_REPORT },
  services: [{ ...service, ...change }],
});
const facts: EnclaveFacts = {
  ready: true,
  tellsStatus: true,
  status: status(),
  wasHealthy: true,
  stopAsked: false,
  end: undefined,
  exit: undefined,
};
const killed = { status: null, signal: "SIGKILL" };

test.each<[string, Partial<EnclaveFacts>, string, RegExp | null]>([
  ["everything healthy", {}, "running", null],
  ["init has not said ready", { ready: false, status: undefined, wasHealthy: false }, "starting", null],
  ["not healthy yet", { status: status({ health: "starting" }), wasHealthy: false }, "starting", null],
  [
    "healthy before, restarting now",
    { status: status({ state: "backoff", health: "none" }) },
    "running",
    null,
  ],
  [
    "a service in a crash loop",
    { status: status({ state: "crash_loop", reason: "exited(3)" }) },
    "unhealthy",
    /web: crash_loop: exited\(3\)/,
  ],
  [
    "a service that fails its check",
    { status: status({ health: "unhealthy", reason: "refused" }) },
    "unhealthy",
    /web: unhealthy: refused/,
  ],
  [
    "a failure before it was ever healthy",
    { status: status({ state: "failed", reason: "exited(1)" }), wasHealthy: false },
    "starting",
    /web: failed/,
  ],
  [
    "the supervisor was restarted",
    { status: status({}, 1) },
    "running",
    /supervisor killed\(SIGKILL\), restarted 1 time/,
  ],
  [
    "production tells nothing but ready",
    { tellsStatus: false, status: undefined, wasHealthy: false },
    "running",
    null,
  ],
  ["a stop was asked for", { stopAsked: true }, "stopping", null],
  [
    "stopped as asked",
    {
      stopAsked: true,
      end: { kind: "end", code: "poweroff", reason: "x" },
      exit: { status: 0, signal: null },
    },
    "stopped",
    null,
  ],
  [
    "stopped by itself",
    { end: { kind: "end", code: "poweroff", reason: "asked inside" }, exit: { status: 0, signal: null } },
    "stopped",
    /asked inside/,
  ],
  ["init killed", { exit: killed }, "failed", /init killed by SIGKILL/],
  [
    "init killed, as the launcher tells it",
    { exit: { status: 137, signal: null } },
    "failed",
    /init killed by SIGKILL/,
  ],
  ["killed after its time to stop", { stopAsked: true, exit: killed }, "stopped", /did not stop in time/],
  [
    "init gave up",
    {
      end: { kind: "end", code: "supervisor_crash_loop", reason: "exited(1)" },
      exit: { status: 1, signal: null },
    },
    "failed",
    /supervisor_crash_loop: exited\(1\)/,
  ],
  ["init ended without a word", { exit: { status: 1, signal: null } }, "failed", /status 1/],
])("%s", (_title, change, state, reason) => {
  const condition = describeCondition({ ...facts, ...change });
  expect(condition.state).toBe(state);
  if (reason === null) expect(condition.reason).toBeNull();
  else expect(condition.reason).toMatch(reason);
});
