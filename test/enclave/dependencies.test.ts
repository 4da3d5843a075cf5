import { expect, test } from "vitest";

import { type Dependency, judgeDependencies } from "../../enclave/dependency-rules.ts";
import { dependantsByName, stopDeadlineMs } from "../../enclave/stop-order.ts";
import type { DependencyCondition } from "../../wire/enclave-config.ts";
import { shellService } from "./service-configs.ts";

const RUNNING = {
  pid: 1,
  executed: Promise.resolve(true),
  ended: new Promise<never>(() => undefined),
  kill: () => undefined,
};
const running: Dependency["state"] = { name: "running", process: RUNNING, sinceMs: 0 };

function judge(condition: DependencyCondition, rest: Partial<Dependency>): unknown {
  const db: Dependency = {
    config: shellService("db", "true"),
    state: { name: "waiting", reason: null },
    health: "none",
    hasRun: false,
    hasCompleted: false,
    ...rest,
  };
  return judgeDependencies([{ service: "db", condition }], (name) => (name === "db" ? db : undefined));
}

test("service_started: met once the program ran, whatever happened since", () => {
  expect(judge("service_started", { state: running, hasRun: true })).toEqual({ kind: "met" });
  expect(judge("service_started", { state: { name: "failed", reason: "exited(1)" }, hasRun: true })).toEqual({
    kind: "met",
  });
  expect(judge("service_started", { state: { name: "failed", reason: "not executed: ENOENT" } })).toEqual({
    kind: "hopeless",
    reason: "dependency db is failed: not executed: ENOENT",
  });
});

test("service_healthy: met while it runs and is healthy", () => {
  expect(judge("service_healthy", { state: running, health: "healthy" })).toEqual({ kind: "met" });
  expect(judge("service_healthy", { state: running, health: "unhealthy" })).toEqual({
    kind: "pending",
    reason: "waits for db: must be healthy, is running and unhealthy",
  });
  expect(judge("service_healthy", { state: { name: "exited", reason: "exited(0)" }, hasRun: true })).toEqual({
    kind: "hopeless",
    reason: "dependency db exited(0) before it was healthy",
  });
});

test("service_completed_successfully: met once it ended with status 0", () => {
  expect(judge("service_completed_successfully", { hasCompleted: true })).toEqual({ kind: "met" });
  expect(judge("service_completed_successfully", { state: running, hasRun: true })).toMatchObject({
    kind: "pending",
  });
  expect(judge("service_completed_successfully", { state: { name: "failed", reason: "exited(2)" } })).toEqual(
    {
      kind: "hopeless",
      reason: "dependency db is failed: exited(2)",
    },
  );
});

test("backoff, crash loop and an operator's stop are not the end of hope", () => {
  for (const name of ["backoff", "crash_loop"] as const) {
    expect(judge("service_healthy", { state: { name, reason: "exited(1)", delayMs: 1 } })).toMatchObject({
      kind: "pending",
    });
  }
  expect(
    judge("service_healthy", { state: { name: "stopped", reason: "stopped_by_operator" } }),
  ).toMatchObject({
    kind: "pending",
  });
});

test("the worst of several conditions decides", () => {
  const failed = { name: "failed", reason: "exited(1)" } as const;
  const dependencies: Record<string, Dependency["state"]> = {
    a: running,
    b: failed,
    c: { name: "waiting", reason: null },
  };
  const find = (name: string): Dependency => ({
    config: shellService(name, "true"),
    state: dependencies[name] ?? failed,
    health: "none",
    hasRun: name === "a",
    hasCompleted: false,
  });
  const edges = ["a", "c", "b"].map((service) => ({ service, condition: "service_started" as const }));
  expect(judgeDependencies(edges, find)).toMatchObject({ kind: "hopeless" });
  expect(judgeDependencies(edges.slice(0, 2), find)).toMatchObject({ kind: "pending" });
  expect(judgeDependencies([], find)).toEqual({ kind: "met" });
});

test("the stop deadline is the longest chain of grace periods, within the maximum", () => {
  const on = (...names: string[]) =>
    names.map((service) => ({ service, condition: "service_started" as const }));
  const services = [
    shellService("a", "", { stopGracePeriodMs: 1_000 }),
    shellService("b", "", { stopGracePeriodMs: 2_000, dependsOn: on("a") }),
    shellService("c", "", { stopGracePeriodMs: 4_000, dependsOn: on("a", "b") }),
    shellService("d", "", { stopGracePeriodMs: 5_000 }),
  ];
  expect(stopDeadlineMs(services, 100_000)).toBe(7_000 + 3 * 1_500);
  expect(stopDeadlineMs(services, 3_000)).toBe(3_000);
  expect(stopDeadlineMs([], 3_000)).toBe(0);
  expect(dependantsByName(services).get("a")).toEqual(["b", "c"]);
});
