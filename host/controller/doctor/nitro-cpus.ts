/** The pool of CPUs: whole cores of one NUMA node, never CPU 0's. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";

import { parseCpuList, readNodeCpus, readPool, readSiblings } from "../../backends/nitro/cpu-pool.ts";
import { fail, type Finding, ok } from "./finding.ts";
import { RESTART_ALLOCATOR } from "./nitro-allocator.ts";
import type { WantedEnclave } from "./wanted-enclave.ts";

const CHECK = "cpu pool";
const EDIT = `sudo $EDITOR /etc/nitro_enclaves/allocator.yaml && ${RESTART_ALLOCATOR}`;

interface Place {
  readonly root: string;
  readonly wanted: WantedEnclave;
}

export async function checkCpuPool({ root, wanted }: Place): Promise<Finding> {
  const pool = await readPool(root);
  if (pool === undefined)
    return fail(CHECK, {
      detail: "the driver nitro_enclaves is not loaded",
      fix: `sudo modprobe nitro_enclaves && ${RESTART_ALLOCATOR}`,
    });
  if (pool.length === 0)
    return fail(CHECK, {
      detail: "it is empty",
      fix: `sudo systemctl enable nitro-enclaves-allocator.service && ${RESTART_ALLOCATOR}`,
    });
  const problem =
    (await findBrokenCore(root, pool)) ??
    (await findStrangeNode(root, pool)) ??
    (await findUnmet(root, pool, wanted));
  if (problem !== undefined) return fail(CHECK, { detail: problem, fix: EDIT });
  return ok(CHECK, `CPUs ${pool.join(", ")}`);
}

async function findBrokenCore(root: string, pool: readonly number[]): Promise<string | undefined> {
  if (pool.includes(0)) return "CPU 0 is in it, which must stay with the host";
  for (const cpu of pool) {
    const siblings = (await readSiblings(root, cpu)) ?? [cpu];
    if (siblings.includes(0)) return `CPU ${cpu} is of CPU 0's core, which must stay with the host`;
    const absent = siblings.find((one) => !pool.includes(one));
    if (absent !== undefined) return `it has CPU ${cpu} without CPU ${absent} of the same core`;
  }
  return undefined;
}

async function findStrangeNode(root: string, pool: readonly number[]): Promise<string | undefined> {
  const names = await readdir(join(root, "sys/devices/system/node")).catch(() => []);
  const used: number[] = [];
  for (const node of names.flatMap((name) => parseCpuList(/^node(\d{1,4})$/.exec(name)?.[1] ?? "") ?? [])) {
    const cpus = (await readNodeCpus(root, node)) ?? [];
    if (cpus.some((cpu) => pool.includes(cpu))) used.push(node);
  }
  if (used.length < 2) return undefined;
  return `its CPUs are of NUMA nodes ${used.sort((a, b) => a - b).join(" and ")}; an enclave has those of one`;
}

async function findUnmet(
  root: string,
  pool: readonly number[],
  wanted: WantedEnclave,
): Promise<string | undefined> {
  const { cpus = 0, cpuIds = [], numaNode } = wanted;
  const strange = cpuIds.find((cpu) => !pool.includes(cpu));
  if (strange !== undefined) return `CPU ${strange} of resources.cpu_ids is not in it: ${pool.join(", ")}`;
  const ofNode = numaNode === undefined ? pool : ((await readNodeCpus(root, numaNode)) ?? []);
  const usable = pool.filter((cpu) => ofNode.includes(cpu));
  if (usable.length >= cpus) return undefined;
  const where = numaNode === undefined ? "" : ` of NUMA node ${numaNode}`;
  return `it has ${usable.length} CPUs${where}; the enclave needs ${cpus}`;
}
