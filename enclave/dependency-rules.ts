/** When a service may start, judged from the services it depends on. Pure. */
import type { DependencyCondition } from "../wire/enclave-config.ts";
import type { Service } from "./service.ts";

export type Verdict =
  | { readonly kind: "met" }
  | { readonly kind: "pending"; readonly reason: string }
  /** It will never be met unless an operator acts. */
  | { readonly kind: "hopeless"; readonly reason: string };

/** What of a service the rules look at. */
export type Dependency = Pick<Service, "config" | "state" | "health" | "hasRun" | "hasCompleted">;

const MET: Verdict = { kind: "met" };

/** The worst of all verdicts: hopeless before pending before met. */
export function judgeDependencies(
  edges: readonly { readonly service: string; readonly condition: DependencyCondition }[],
  find: (name: string) => Dependency | undefined,
): Verdict {
  const verdicts = edges.map(({ service, condition }) => {
    const dependency = find(service);
    return dependency === undefined ? hopeless(`no service ${service}`) : judge(dependency, condition);
  });
  return (
    verdicts.find((verdict) => verdict.kind === "hopeless") ??
    verdicts.find((verdict) => verdict.kind === "pending") ??
    MET
  );
}

function judge(dependency: Dependency, condition: DependencyCondition): Verdict {
  const { name } = dependency.config;
  if (isMet(dependency, condition)) return MET;
  const { state } = dependency;
  const failed = state.name === "failed" || state.name === "blocked";
  if (failed) return hopeless(`dependency ${name} is ${state.name}: ${state.reason}`);
  if (state.name === "exited") return hopeless(`dependency ${name} ${state.reason} before it was healthy`);
  return { kind: "pending", reason: `waits for ${name}: ${WORDS[condition]}, is ${describe(dependency)}` };
}

function isMet({ state, health, hasRun, hasCompleted }: Dependency, condition: DependencyCondition): boolean {
  const met: Readonly<Record<DependencyCondition, boolean>> = {
    service_started: hasRun,
    service_healthy: state.name === "running" && health === "healthy",
    service_completed_successfully: hasCompleted,
  };
  return met[condition];
}

const WORDS: Readonly<Record<DependencyCondition, string>> = {
  service_started: "must have started",
  service_healthy: "must be healthy",
  service_completed_successfully: "must have completed",
};

function describe({ state, health }: Dependency): string {
  return state.name === "running" && health !== "none" ? `running and ${health}` : state.name;
}

function hopeless(reason: string): Verdict {
  return { kind: "hopeless", reason };
}
