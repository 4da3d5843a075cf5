/**
 * The CPUs that the allocator has taken from this host for enclaves, from the driver's parameter and the kernel's
 * topology. An enclave gets whole cores, all of one NUMA node, and never CPU 0's.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { isErrno, KitError } from "../../../core/errors.ts";

const POOL_FILE = "sys/module/nitro_enclaves/parameters/ne_cpus";
const MAX_CPU = 4095;

/** Of `2,3,6-9`; undefined if it is no such list. */
export function parseCpuList(text: string): number[] | undefined {
  const cpus = new Set<number>();
  for (const part of text.trim().split(",")) {
    if (part === "") continue;
    const [, from = "", to = from] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part.trim()) ?? [];
    const [first, last] = [Number(from), Number(to)];
    if (from === "" || last < first || last > MAX_CPU) return undefined;
    for (let cpu = first; cpu <= last; cpu++) cpus.add(cpu);
  }
  return [...cpus].sort((a, b) => a - b);
}

/** @param root "/" or a tree like it. @returns undefined where the driver is not loaded or says no list */
export async function readPool(root: string): Promise<number[] | undefined> {
  return await readList(join(root, POOL_FILE));
}

/** CPUs of a node; undefined if there is no such node. */
export async function readNodeCpus(root: string, node: number): Promise<number[] | undefined> {
  return await readList(join(root, `sys/devices/system/node/node${node}/cpulist`));
}

/** The threads of the core of a CPU. A CPU that is offline, as those of the pool are, tells nothing. */
export async function readSiblings(root: string, cpu: number): Promise<number[] | undefined> {
  return await readList(join(root, `sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`));
}

export interface CpuChoice {
  readonly root: string;
  readonly count: number;
  readonly numaNode: number;
  /** Held by other enclaves. */
  readonly taken: readonly number[];
}

/** CPUs of the pool on one NUMA node. @throws E_NITRO_CPU */
export async function chooseCpus({ root, count, numaNode, taken }: CpuChoice): Promise<number[]> {
  const ofNode = await readNodeCpus(root, numaNode);
  if (ofNode === undefined) throw new KitError("E_NITRO_CPU", `this machine has no NUMA node ${numaNode}`);
  const pool = (await readPool(root)) ?? [];
  const free = pool.filter((cpu) => ofNode.includes(cpu) && !taken.includes(cpu));
  if (free.length >= count) return free.slice(0, count);
  throw new KitError(
    "E_NITRO_CPU",
    `the enclave asks for ${count} CPUs of NUMA node ${numaNode}; the pool has ${free.length} free there`,
  );
}

/** The given CPUs, if they are of that node. @throws E_NITRO_CPU */
export async function checkCpuNode(root: string, ids: readonly number[], numaNode: number): Promise<void> {
  const ofNode = (await readNodeCpus(root, numaNode)) ?? [];
  const strange = ids.find((cpu) => !ofNode.includes(cpu));
  if (strange === undefined) return;
  throw new KitError("E_NITRO_CPU", `CPU ${strange} of resources.cpu_ids is not of NUMA node ${numaNode}`);
}

async function readList(path: string): Promise<number[] | undefined> {
  try {
    return parseCpuList(await readFile(path, "utf8"));
  } catch (error) {
    if (isErrno(error)) return undefined;
    throw error;
  }
}
