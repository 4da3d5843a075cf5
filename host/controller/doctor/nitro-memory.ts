/** Memory for enclaves: huge pages, which the allocator reserves, of one NUMA node. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

import { leastMemoryMib } from "../../backends/nitro/launch-limits.ts";
import { fail, type Finding, ok } from "./finding.ts";
import { neededMemoryMib, RESTART_ALLOCATOR, setMemory } from "./nitro-allocator.ts";
import type { WantedEnclave } from "./wanted-enclave.ts";

const MIB = 1024 ** 2;
const CHECK = "huge pages";

interface Place {
  readonly root: string;
  readonly wanted: WantedEnclave;
}

interface NodePages {
  readonly node: number;
  readonly totalMib: number;
  readonly freeMib: number;
}

/** Pages of all sizes together: an enclave is made of any. */
export async function checkHugePages({ root, wanted }: Place): Promise<Finding> {
  const nodes = await readNodes(root);
  const told = nodes.map(({ node, totalMib, freeMib }) => `node ${node}: ${freeMib} of ${totalMib} MiB free`);
  if (nodes.every((one) => one.totalMib === 0))
    return fail(CHECK, {
      detail: "none are reserved",
      fix: `sudo systemctl enable nitro-enclaves-allocator.service && ${RESTART_ALLOCATOR}`,
    });
  const neededMib = neededMemoryMib(wanted);
  const usable = nodes.filter(({ node }) => wanted.numaNode === undefined || wanted.numaNode === node);
  const best = Math.max(0, ...usable.map((one) => one.freeMib));
  if (best >= Math.max(1, neededMib)) return ok(CHECK, told.join("; "));
  const reserved = Math.max(0, ...usable.map((one) => one.totalMib));
  const detail = `${told.join("; ")}; ${neededMib === 0 ? "no enclave fits" : `${neededMib} MiB are needed on one node`}`;
  const isHeld = reserved >= neededMib && reserved > 0;
  return fail(CHECK, {
    detail,
    fix: isHeld
      ? "nitro-cli describe-enclaves, and nitro-cli terminate-enclave --enclave-id ID"
      : setMemory(neededMib),
  });
}

/** nitro-cli wants four times the image. */
export async function checkImageMemory({ wanted }: Place): Promise<Finding[]> {
  const { imageBytes, memoryBytes } = wanted;
  if (imageBytes === undefined) return [];
  const check = "enclave memory";
  const neededMib = leastMemoryMib(imageBytes);
  const image = `an image of ${Math.ceil(imageBytes / MIB)} MiB needs ${neededMib} MiB`;
  if (memoryBytes === undefined || memoryBytes >= neededMib * MIB) return [ok(check, image)];
  const detail = `${image}; enclave.yaml gives it ${Math.floor(memoryBytes / MIB)} MiB`;
  return [fail(check, { detail, fix: `set resources: { memory: ${neededMib}MiB } in enclave.yaml` })];
}

async function readNodes(root: string): Promise<NodePages[]> {
  const folder = join(root, "sys/devices/system/node");
  const names = await readdir(folder).catch(() => []);
  const nodes = names.flatMap((name) => /^node(\d{1,4})$/.exec(name)?.[1] ?? []).map(Number);
  return await Promise.all(
    nodes
      .sort((a, b) => a - b)
      .map(async (node) => await readPages(join(folder, `node${node}`, "hugepages"), node)),
  );
}

async function readPages(folder: string, node: number): Promise<NodePages> {
  let [totalMib, freeMib] = [0, 0];
  for (const name of await readdir(folder).catch(() => [])) {
    const pageMib = Number(/^hugepages-(\d+)kB$/.exec(name)?.[1] ?? 0) / 1024;
    totalMib += pageMib * (await readNumber(join(folder, name, "nr_hugepages")));
    freeMib += pageMib * (await readNumber(join(folder, name, "free_hugepages")));
  }
  return { node, totalMib, freeMib };
}

async function readNumber(path: string): Promise<number> {
  const text = (await readFile(path, "utf8").catch(() => "")).trim();
  return /^\d{1,12}$/.test(text) ? Number(text) : 0;
}
