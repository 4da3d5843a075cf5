import type { ServiceConfig } from "../wire/enclave-config.ts";

type StopEdges = Pick<ServiceConfig, "name" | "dependsOn" | "stopGracePeriodMs">;

/** Time after each grace period for the kill, the reaping and the rest of the output. */
const SETTLE_MS = 1_500;

/** Name to the names of the services that depend on it and so must have ended first. */
export function dependantsByName(services: readonly StopEdges[]): Map<string, string[]> {
  const dependants = new Map<string, string[]>(services.map(({ name }) => [name, []]));
  for (const { name, dependsOn } of services) {
    for (const edge of dependsOn) dependants.get(edge.service)?.push(name);
  }
  return dependants;
}

/** Deadline of an ordered stop: the longest sum of grace periods along a chain of dependencies, in ms. */
export function stopDeadlineMs(services: readonly StopEdges[], maximumMs: number): number {
  const byName = new Map(services.map((service) => [service.name, service]));
  const known = new Map<string, number>();
  const chainMs = (name: string): number => {
    const service = byName.get(name);
    if (service === undefined) return 0;
    const before = known.get(name) ?? Math.max(0, ...service.dependsOn.map((edge) => chainMs(edge.service)));
    known.set(name, before);
    return before + service.stopGracePeriodMs + SETTLE_MS;
  };
  return Math.min(maximumMs, Math.max(0, ...services.map(({ name }) => chainMs(name))));
}
