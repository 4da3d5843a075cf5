/**
 * /etc/nitro_enclaves/allocator.yaml: memory_mib, and cpu_count or cpu_pool. A shell script reads it, so it must begin
 * with `---` and have flat `key: value` lines.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { parseCpuList } from "../../backends/nitro/cpu-pool.ts";
import { leastMemoryMib } from "../../backends/nitro/launch-limits.ts";
import { fail, type Finding, ok } from "./finding.ts";
import type { WantedEnclave } from "./wanted-enclave.ts";

const CHECK = "allocator";
const PATH = "etc/nitro_enclaves/allocator.yaml";
const MIB = 1024 ** 2;
export const RESTART_ALLOCATOR = "sudo systemctl restart nitro-enclaves-allocator.service";

interface Allocation {
  readonly memoryMib: number;
  readonly cpus: number;
}

export async function checkAllocator(options: {
  readonly root: string;
  readonly wanted: WantedEnclave;
}): Promise<Finding> {
  const text = await readFile(join(options.root, PATH), "utf8").catch(() => undefined);
  if (text === undefined) {
    const fix =
      "sudo dnf install aws-nitro-enclaves-cli && sudo systemctl enable --now nitro-enclaves-allocator.service";
    return fail(CHECK, { detail: `/${PATH} cannot be read`, fix });
  }
  const allocation = readAllocation(text);
  if (typeof allocation === "string")
    return fail(CHECK, {
      detail: `/${PATH}: ${allocation}`,
      fix: `sudo $EDITOR /${PATH} && ${RESTART_ALLOCATOR}`,
    });
  const { memoryMib, cpus } = allocation;
  const neededMib = neededMemoryMib(options.wanted);
  if (memoryMib < neededMib)
    return fail(CHECK, {
      detail: `it reserves ${memoryMib} MiB; the enclave needs ${neededMib} MiB`,
      fix: setMemory(neededMib),
    });
  const neededCpus = options.wanted.cpuIds?.length ?? options.wanted.cpus ?? 0;
  if (cpus < neededCpus)
    return fail(CHECK, {
      detail: `it reserves ${cpus} CPUs; the enclave needs ${neededCpus}`,
      fix: setKey("cpu_count", neededCpus),
    });
  return ok(CHECK, `${memoryMib} MiB and ${cpus} CPUs`);
}

/** What the enclave is given, or the least for its image; 0 if neither is known. */
export function neededMemoryMib({ memoryBytes = 0, imageBytes }: WantedEnclave): number {
  const forImage = imageBytes === undefined ? 0 : leastMemoryMib(imageBytes);
  return Math.max(Math.ceil(memoryBytes / MIB), forImage);
}

/** Commands that reserve so much. */
export function setMemory(memoryMib: number): string {
  return setKey("memory_mib", memoryMib);
}

function setKey(key: string, value: number): string {
  return `sudo sed -i 's/^${key}:.*/${key}: ${value}/' /${PATH} && ${RESTART_ALLOCATOR}`;
}

/** @returns what is wrong with it, as a text */
function readAllocation(text: string): Allocation | string {
  const lines = text.split("\n").map((line) => line.replace(/\s*#.*$/, "").trimEnd());
  if (lines.find((line) => line !== "") !== "---") return "it does not begin with ---";
  const values = new Map<string, string>();
  for (const line of lines.filter((one) => one !== "" && one !== "---")) {
    const [, key, value = ""] = /^([a-z_]+):\s*(.*)$/.exec(line) ?? [];
    if (key === undefined) return `${JSON.stringify(line.slice(0, 80))} is no line of the form key: value`;
    values.set(key, value.replaceAll('"', ""));
  }
  return toAllocation(values);
}

function toAllocation(values: ReadonlyMap<string, string>): Allocation | string {
  const [memory = "", count, pool] = ["memory_mib", "cpu_count", "cpu_pool"].map((key) => values.get(key));
  if (!/^\d{1,9}$/.test(memory)) return "memory_mib is no number";
  if ((count === undefined) === (pool === undefined)) return "it needs cpu_count or cpu_pool, one of them";
  const cpus = pool === undefined ? Number(count) : parseCpuList(pool)?.length;
  if (cpus === undefined || !Number.isSafeInteger(cpus)) return "its CPUs are no number and no list";
  return { memoryMib: Number(memory), cpus };
}
