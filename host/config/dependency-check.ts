import { KitError } from "../../core/errors.ts";
import { nearestName } from "../../core/nearest-name.ts";
import type { YamlFile } from "../../core/yaml-file.ts";
import type { ServiceSpec } from "./enclave-spec.ts";

/** @throws E_CONFIG_DEPENDENCY for unknown names, a health condition without a health check, and cycles. */
export function checkDependencies(services: readonly ServiceSpec[], file: YamlFile): void {
  const byName = new Map(services.map((service) => [service.name, service]));
  for (const service of services) checkEdges(service, byName, file);
  const cycle = findCycle(byName);
  if (cycle === undefined) return;
  const place = file.locate(["services", cycle[0] ?? "", "depends_on"]);
  throw new KitError("E_CONFIG_DEPENDENCY", `${place}: depends_on forms a cycle: ${cycle.join(" -> ")}`);
}

function checkEdges(service: ServiceSpec, byName: ReadonlyMap<string, ServiceSpec>, file: YamlFile): void {
  for (const edge of service.dependsOn) {
    const place = file.locateKey(["services", service.name, "depends_on", edge.service]);
    const target = byName.get(edge.service);
    if (target === undefined) {
      const near = nearestName(edge.service, byName.keys());
      const suggestion = near === undefined ? "" : `; did you mean ${JSON.stringify(near)}?`;
      const message = `${place}: services.${service.name}.depends_on: no service ${JSON.stringify(edge.service)}${suggestion}`;
      throw new KitError("E_CONFIG_DEPENDENCY", message);
    }
    if (edge.condition === "service_healthy" && target.healthcheck === undefined) {
      const message = `${place}: ${edge.service} has no healthcheck, so it can never be service_healthy`;
      throw new KitError("E_CONFIG_DEPENDENCY", message, { hint: `Add a healthcheck to ${edge.service}.` });
    }
    if (edge.condition === "service_completed_successfully" && target.restart.policy === "always") {
      const message = `${place}: ${edge.service} is restarted always, so it can never complete`;
      throw new KitError("E_CONFIG_DEPENDENCY", message, {
        hint: `Give ${edge.service} restart: on-failure or "no".`,
      });
    }
  }
}

/** Depth first, in file order; the names along the first cycle found, the first repeated at the end. */
function findCycle(byName: ReadonlyMap<string, ServiceSpec>): string[] | undefined {
  const finished = new Set<string>();
  const visit = (name: string, trail: readonly string[]): string[] | undefined => {
    if (trail.includes(name)) return [...trail.slice(trail.indexOf(name)), name];
    if (finished.has(name)) return undefined;
    for (const edge of byName.get(name)?.dependsOn ?? []) {
      const cycle = visit(edge.service, [...trail, name]);
      if (cycle !== undefined) return cycle;
    }
    finished.add(name);
    return undefined;
  };
  for (const name of byName.keys()) {
    const cycle = visit(name, []);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}
