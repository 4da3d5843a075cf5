/** Makes the compartments of services, and tells which of their limits this machine can keep. */
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { KitError } from "../core/errors.ts";
import type { LimitName, LimitStatus, Usage } from "../wire/control.ts";
import type { ServiceConfig } from "../wire/enclave-config.ts";
import { describeSharing } from "../wire/isolation.ts";
import type { CgroupTree } from "./cgroups/cgroup-tree.ts";
import type { ServiceCgroup } from "./cgroups/service-cgroup.ts";
import { type Compartment, makeCompartment } from "./compartment.ts";
import { buildServiceFilter } from "./seccomp/filter.ts";

export interface CompartmentsOptions {
  readonly openTree: () => Promise<CgroupTree>;
  /** Folder of the system call filters; made here. */
  readonly filterDirectory: string;
  readonly architecture: "x64" | "arm64";
  /** False where only one uid exists, which then is root's. */
  readonly setIdentity: boolean;
}

const UNKNOWN_USAGE: Usage = {
  cpuUsec: null,
  memoryBytes: null,
  memoryLimitBytes: null,
  pids: null,
  pidsLimit: null,
};

export class Compartments {
  readonly #options: CompartmentsOptions;
  readonly #cgroups = new Map<string, ServiceCgroup>();
  /** Opened by the first `prepare`. */
  #tree: CgroupTree | undefined;

  constructor(options: CompartmentsOptions) {
    this.#options = options;
  }

  /** Makes those of the services given, or sets their limits anew. @throws E_CGROUP_* */
  async prepare(configs: readonly ServiceConfig[]): Promise<ReadonlyMap<string, Compartment>> {
    this.#tree ??= await this.#options.openTree();
    await mkdir(this.#options.filterDirectory, { recursive: true, mode: 0o700 });
    const made = new Map<string, Compartment>();
    const countsPids = this.#tree.controllers.pids.available;
    for (const config of configs) {
      const filter = await this.#writeFilter(config);
      const cgroup = await this.#openCgroup(config);
      made.set(config.name, makeCompartment(config, { filter, cgroup, countsPids }));
    }
    return made;
  }

  /** After the last process of the services is gone. */
  async remove(names: readonly string[]): Promise<void> {
    for (const name of names) {
      const cgroup = this.#cgroups.get(name);
      this.#cgroups.delete(name);
      await cgroup?.remove();
    }
  }

  /** Every limit of the service, and whether it holds here. */
  limitsOf({ limits }: ServiceConfig): LimitStatus[] {
    const controllers = this.#tree?.controllers;
    if (controllers === undefined) return [];
    const always = { available: true, why: null };
    const rows: [LimitName, number | undefined, { available: boolean; why: string | null }][] = [
      ["memory", limits.memoryBytes, controllers.memory],
      ["pids", limits.pids, controllers.pids],
      ["cpus", limits.cpus, controllers.cpu],
      ["cpu_time", limits.cpuTimeMs, controllers.cpuacct],
      ["run_time", limits.runTimeMs, always],
      ["output", limits.outputBytes, always],
    ];
    return rows.flatMap(([name, value, { available, why }]) =>
      value === undefined ? [] : [{ name, value, enforced: available, why: available ? null : why }],
    );
  }

  async readUsage(config: ServiceConfig): Promise<Usage> {
    const usage = (await this.#cgroups.get(config.name)?.readUsage()) ?? UNKNOWN_USAGE;
    const { memoryBytes, pids } = config.limits;
    return {
      cpuUsec: usage.cpuUsec,
      memoryBytes: usage.memoryBytes,
      memoryLimitBytes: memoryBytes ?? null,
      pids: usage.pids,
      pidsLimit: pids ?? null,
    };
  }

  async readMachineUsage(): Promise<Usage> {
    const usage = await this.#tree?.readMachineUsage();
    if (usage === undefined) return UNKNOWN_USAGE;
    const { cpuUsec, memoryBytes, memoryLimitBytes, pids, pidsLimit } = usage;
    return { cpuUsec, memoryBytes, memoryLimitBytes, pids, pidsLimit };
  }

  /** By content: a filter that a running service was started with is never written again. */
  async #writeFilter({ capabilities, user, netlink }: ServiceConfig): Promise<string> {
    const { filterDirectory, architecture, setIdentity } = this.#options;
    const identity = setIdentity ? { uid: user.uid, gid: user.gid } : { uid: 0, gid: 0 };
    const filter = buildServiceFilter({ architecture, capabilities, identity, netlink: netlink === true });
    const name = createHash("sha256").update(filter).digest("hex").slice(0, 16);
    const path = join(filterDirectory, `${name}.bpf`);
    await writeFile(path, filter, { mode: 0o600 });
    return path;
  }

  async #openCgroup({ name, limits }: ServiceConfig): Promise<ServiceCgroup | undefined> {
    const known = this.#cgroups.get(name);
    if (known !== undefined) {
      await known.setLimits(limits);
      return known;
    }
    const made = await this.#tree?.openService(name, limits);
    if (made !== undefined) this.#cgroups.set(name, made);
    return made;
  }
}

/** @throws E_ENCLAVE_LIMITS, E_ENCLAVE_ISOLATION if a production image would run with less than it was built for. */
export function assertProduction(services: readonly ServiceConfig[], compartments: Compartments): void {
  for (const service of services) {
    const sharing = describeSharing(service, services);
    if (sharing !== null) throw new KitError("E_ENCLAVE_ISOLATION", `service ${service.name} ${sharing}`);
    const broken = compartments.limitsOf(service).find((limit) => !limit.enforced);
    if (broken === undefined) continue;
    const message = `service ${service.name}: ${broken.name} cannot be limited: ${broken.why ?? ""}`;
    throw new KitError("E_ENCLAVE_LIMITS", message);
  }
}
