import type { ServiceConfig } from "../../wire/enclave-config.ts";

/** What supervisor and init take besides, in ms. */
const MARGIN_MS = 5_000;
/** The supervisor stops everything within 100 s; init kills after 120 s. */
const MAXIMUM_MS = 125_000;

/** Time that an ordered stop may take: the longest chain of grace periods along the dependencies, and a margin. */
export function stopTimeoutMs(services: readonly ServiceConfig[]): number {
  const byName = new Map(services.map((service) => [service.name, service]));
  const longest = new Map<string, number>();
  const chainMs = (name: string): number => {
    const known = longest.get(name);
    if (known !== undefined) return known;
    const service = byName.get(name);
    const below = Math.max(0, ...(service?.dependsOn ?? []).map((edge) => chainMs(edge.service)));
    const totalMs = below + (service?.stopGracePeriodMs ?? 0);
    longest.set(name, totalMs);
    return totalMs;
  };
  return Math.min(MAXIMUM_MS, Math.max(0, ...byName.keys().map(chainMs)) + MARGIN_MS);
}
