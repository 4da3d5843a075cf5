/**
 * Version 2: one tree for all controllers. A cgroup that holds processes can give its children no controllers (only the
 * kernel's own root can), so the enclave's own processes go aside first:
 *
 *   root/                cgroup.subtree_control: +memory +pids +cpu
 *     system/            init, supervisor, gateway
 *     services/          cgroup.subtree_control: +memory +pids +cpu
 *       web.service/
 */
import { access } from "node:fs/promises";
import { join } from "node:path";

import { isErrno } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { readIds } from "./cgroup-killer.ts";
import type { CgroupPlace } from "./cgroup-usage.ts";
import { parsed, readControl, writeControl } from "./control-file.ts";
import { parseNames } from "./control-format.ts";
import { CONTROLLERS, type Controller, VERSION_2 } from "./dialect.ts";
import {
  describeControllers,
  emptyLayout,
  SERVICES,
  type TreeLayout,
  tryMakeDirectory,
} from "./tree-layout.ts";

const SYSTEM = "system";
/** Processes may fork while they are moved. */
const MAX_ROUNDS = 16;
/** PF_KTHREAD: threads of the kernel stay where they are. */
const KERNEL_THREAD = 0x200000;
/** CPU time is counted in every cgroup (cpuacct). */
const LIMITING: readonly Controller[] = ["memory", "pids", "cpu"];

export interface UnifiedOptions {
  readonly root: string;
  readonly procRoot: string;
  readonly log: Log;
}

/** @returns undefined if version 2 is not mounted at the root. @throws E_CGROUP_FILE, E_CGROUP_FORMAT */
export async function openUnifiedTree(options: UnifiedOptions): Promise<TreeLayout | undefined> {
  const { root, log } = options;
  const offered = await readNames(join(root, "cgroup.controllers"));
  if (offered === undefined) return undefined;
  const services = join(root, SERVICES);
  const refusal = (await tryMakeDirectory(services)) ?? (await tryMakeDirectory(join(root, SYSTEM)));
  if (refusal !== undefined) return emptyLayout(VERSION_2, `cgroups cannot be made here (${refusal})`);
  const isKernelRoot = !(await exists(join(root, "cgroup.type")));
  const left = await moveProcesses(options, isKernelRoot);
  if (left > 0) log.warn("processes stay in the root cgroup", { processes: left });
  const wanted = LIMITING.filter((name) => offered.includes(name));
  const refusals = await enableControllers([root, services], wanted);
  const whyNot = (name: Controller): string | null => {
    if (name === "cpuacct") return null;
    if (!offered.includes(name)) return `this machine gives the enclave no ${name} controller`;
    const refusal = refusals.get(name);
    return refusal === undefined ? null : `the ${name} controller cannot be enabled (${refusal})`;
  };
  return {
    version: 2,
    machine: placeOf(root, () => true),
    isKernelRoot,
    services: placeOf(services, (name) => whyNot(name) === null),
    folders: [services],
    freezer: undefined,
    controllers: describeControllers(whyNot),
  };
}

function placeOf(directory: string, has: (name: Controller) => boolean): CgroupPlace {
  const directories = new Map(CONTROLLERS.filter(has).map((name) => [name, directory]));
  return { dialect: VERSION_2, directories };
}

async function readNames(path: string): Promise<string[] | undefined> {
  const text = await readControl(path);
  return text === undefined ? undefined : parsed(parseNames(text), path, text);
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

/** All together, and one by one where the kernel does not take them all. @returns errno of each that was refused. */
async function enableControllers(
  directories: readonly string[],
  wanted: readonly Controller[],
): Promise<ReadonlyMap<Controller, string>> {
  const refusals = new Map<Controller, string>();
  for (const directory of directories) {
    const path = join(directory, "cgroup.subtree_control");
    if ((await tryWrite(path, wanted.map((name) => `+${name}`).join(" "))) === undefined) continue;
    for (const name of wanted) {
      const refusal = await tryWrite(path, `+${name}`);
      if (refusal !== undefined && !refusals.has(name)) refusals.set(name, refusal);
    }
  }
  return refusals;
}

async function tryWrite(path: string, text: string): Promise<string | undefined> {
  try {
    await writeControl(path, text);
    return undefined;
  } catch (error) {
    if (!isErrno(error)) throw error;
    return error.code ?? "";
  }
}

/** @returns how many could not be moved. */
async function moveProcesses({ root, procRoot }: UnifiedOptions, isKernelRoot: boolean): Promise<number> {
  const target = join(root, SYSTEM, "cgroup.procs");
  const foreign = new Set<number>();
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const ids = (await readIds(join(root, "cgroup.procs"))).filter((id) => !foreign.has(id));
    if (ids.length === 0) return 0;
    for (const id of ids) {
      if (isKernelRoot && (await isKernelThread(procRoot, id))) foreign.add(id);
      // What ended meanwhile needs no move, and what cannot be moved is found in the list again.
      else await tryWrite(target, String(id));
    }
  }
  return (await readIds(join(root, "cgroup.procs"))).filter((id) => !foreign.has(id)).length;
}

/** /proc/PID/stat: id, name in parentheses (which may hold any character), then state and, seventh, flags. */
async function isKernelThread(procRoot: string, id: number): Promise<boolean> {
  const text = (await readControl(join(procRoot, String(id), "stat"))) ?? "";
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[6] ?? 0) & KERNEL_THREAD) !== 0;
}
