/** Limits of a whole enclave, written into its cgroup on the host. */
import { constants } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { isErrno } from "../../../core/errors.ts";
import type { CgroupMount } from "./cgroup-mounts.ts";

export type Limited = "memory" | "cpus" | "pids";

export interface Held {
  readonly enforced: boolean;
  /** Why not, else null. */
  readonly why: string | null;
}

export interface WantedLimits {
  readonly memoryBytes: number;
  readonly cpus: number;
  /** Processes and threads. */
  readonly pids: number;
}

interface Write {
  readonly file: string;
  readonly text: string;
  /** Only some kernels have the file, and it can be done without. */
  readonly optional?: true;
  /** Written where the kernel calls the text invalid. */
  readonly otherwise?: string;
}

const CONTROLLER_OF = { memory: "memory", cpus: "cpu", pids: "pids" } as const;
const LIMITED = ["memory", "cpus", "pids"] as const;
const PERIOD_USEC = 100_000;
/** Where cgroups nest without end, an enclave could fill the kernel's memory with them. */
const MAX_DESCENDANTS = 1_024;
const MAX_DEPTH = 8;

/** @returns those of the limits that belong to the hierarchy. @throws nothing but faults */
export async function writeMachineLimits(
  directory: string,
  mount: CgroupMount,
  wanted: WantedLimits,
): Promise<Partial<Record<Limited, Held>>> {
  const writes = mount.isUnified ? unifiedWrites(wanted) : legacyWrites(wanted);
  const limits: Partial<Record<Limited, Held>> = {};
  for (const name of limitedBy(mount)) limits[name] = await writeLimit(directory, name, writes[name]);
  if (mount.isUnified) await boundTree(directory);
  return limits;
}

/** The same answer for all limits that belong to the hierarchy. */
export function refuseLimits(mount: CgroupMount, why: string): Partial<Record<Limited, Held>> {
  return Object.fromEntries(limitedBy(mount).map((name) => [name, { enforced: false, why }]));
}

function limitedBy({ isUnified, controllers }: CgroupMount): Limited[] {
  return LIMITED.filter((name) => isUnified || controllers.includes(CONTROLLER_OF[name]));
}

function unifiedWrites({ memoryBytes, cpus, pids }: WantedLimits): Record<Limited, readonly Write[]> {
  return {
    memory: [
      { file: "memory.swap.max", text: "0", optional: true },
      { file: "memory.max", text: String(memoryBytes) },
    ],
    cpus: [{ file: "cpu.max", text: `${Math.round(cpus * PERIOD_USEC)} ${PERIOD_USEC}` }],
    pids: [{ file: "pids.max", text: String(pids) }],
  };
}

function legacyWrites({ memoryBytes, cpus, pids }: WantedLimits): Record<Limited, readonly Write[]> {
  return {
    memory: [
      // Kernels before 5.11 count what is below only if they are told to.
      { file: "memory.use_hierarchy", text: "1", optional: true },
      { file: "memory.limit_in_bytes", text: String(memoryBytes) },
      { file: "memory.memsw.limit_in_bytes", text: String(memoryBytes), optional: true },
    ],
    cpus: [
      { file: "cpu.cfs_period_us", text: String(PERIOD_USEC) },
      // More than a cgroup above allows is invalid, and then that one is the limit.
      { file: "cpu.cfs_quota_us", text: String(Math.round(cpus * PERIOD_USEC)), otherwise: "-1" },
    ],
    pids: [{ file: "pids.max", text: String(pids) }],
  };
}

async function boundTree(directory: string): Promise<void> {
  await tryWrite(join(directory, "cgroup.max.descendants"), String(MAX_DESCENDANTS));
  await tryWrite(join(directory, "cgroup.max.depth"), String(MAX_DEPTH));
}

async function writeLimit(directory: string, name: Limited, writes: readonly Write[]): Promise<Held> {
  for (const { file, text, optional, otherwise } of writes) {
    const path = join(directory, file);
    const refusal = await tryWrite(path, text);
    if (refusal === undefined || optional === true) continue;
    if (refusal === "EINVAL" && otherwise !== undefined && (await tryWrite(path, otherwise)) === undefined) {
      continue;
    }
    const why =
      refusal === "ENOENT"
        ? `this machine gives its cgroups no ${CONTROLLER_OF[name]} controller (there is no ${path})`
        : `the kernel does not take ${text} for ${path} (${refusal})`;
    return { enforced: false, why };
  }
  return { enforced: true, why: null };
}

/** Into a control file that is there. @returns the errno of a refusal */
export async function tryWrite(path: string, text: string): Promise<string | undefined> {
  try {
    await writeFile(path, text, { flag: constants.O_WRONLY | constants.O_TRUNC });
    return undefined;
  } catch (error) {
    if (!isErrno(error)) throw error;
    return error.code ?? "";
  }
}
