/**
 * The cgroups of an enclave, as the supervisor finds them: mounted by init in a virtual machine, delegated by the host
 * with the local backend, or absent. Either version serves; what a machine does not give is told for each controller.
 */
import type { Log } from "../../core/log.ts";
import { VERSION_2 } from "./dialect.ts";
import type { CgroupLimits } from "./dialect.ts";
import { openLegacyTree } from "./legacy-tree.ts";
import { type MachineUsage, readMachine } from "./machine-usage.ts";
import { ServiceCgroup } from "./service-cgroup.ts";
import { type Controllers, emptyLayout, type TreeLayout } from "./tree-layout.ts";
import { openUnifiedTree } from "./unified-tree.ts";

export interface CgroupsOptions {
  /** Where cgroups are mounted. */
  readonly root: string;
  readonly log: Log;
  /** /proc unless told. */
  readonly procRoot?: string;
}

export interface CgroupTree {
  /** What limits rest on: cpu is for the share of CPUs, cpuacct for CPU time. */
  readonly controllers: Controllers;
  /**
   * Makes the cgroup of a service, or takes over the one of that name after killing everything in it. Owned by the
   * caller, who removes it. @returns undefined where there are no cgroups.
   * @throws E_CGROUP_SETUP, E_CGROUP_LIMIT, E_CGROUP_KILL, E_CGROUP_FILE, E_CGROUP_FORMAT
   */
  openService(name: string, limits: CgroupLimits): Promise<ServiceCgroup | undefined>;
  /** @throws E_CGROUP_FILE, E_CGROUP_FORMAT */
  readMachineUsage(): Promise<MachineUsage>;
}

/** @throws E_CGROUP_FILE, E_CGROUP_FORMAT if a tree that is there cannot be understood */
export async function openCgroups({ root, log, procRoot = "/proc" }: CgroupsOptions): Promise<CgroupTree> {
  const layout =
    (await openUnifiedTree({ root, procRoot, log })) ??
    (await openLegacyTree(root)) ??
    emptyLayout(VERSION_2, "this machine gives the enclave no cgroups");
  log.info("cgroups", { version: layout.version, missing: missingIn(layout) });
  return {
    controllers: layout.controllers,
    openService: async (name, limits) =>
      layout.folders.length === 0 ? undefined : await ServiceCgroup.open(name, layout, limits),
    readMachineUsage: async () => await readMachine(layout, procRoot),
  };
}

function missingIn({ controllers }: TreeLayout): string[] {
  return Object.values(controllers).flatMap(({ why }) => why ?? []);
}
