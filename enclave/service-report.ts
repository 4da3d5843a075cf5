/** What status and stats tell of services: the group knows what they do, the compartments what they may. */
import type { ServiceStatus, UsageReport } from "../wire/control.ts";
import { describeSharing } from "../wire/isolation.ts";
import type { Clock } from "./clock.ts";
import type { Compartments } from "./compartments.ts";
import type { ServiceGroup } from "./service-group.ts";

export interface ReportSources {
  readonly services: ServiceGroup;
  readonly compartments: Compartments;
  readonly clock: Clock;
  /** False where only one uid exists. */
  readonly setIdentity: boolean;
}

const ONE_UID = "shares the only user id there is with every other process";

export function reportServices({ services, compartments, setIdentity }: ReportSources): ServiceStatus[] {
  const configs = services.services.map((service) => service.config);
  return services.services.map((service) => ({
    ...service.status(),
    notIsolated: setIdentity ? describeSharing(service.config, configs) : ONE_UID,
    limits: compartments.limitsOf(service.config),
  }));
}

export async function measureServices({
  services,
  compartments,
  clock,
}: ReportSources): Promise<UsageReport> {
  const usages = services.services.map(async (service) => ({
    name: service.config.name,
    ...(await compartments.readUsage(service.config)),
    outputBytes: service.outputBytes,
  }));
  return {
    time: clock.epochMs(),
    machine: await compartments.readMachineUsage(),
    services: await Promise.all(usages),
  };
}
