/**
 * Version 1: a hierarchy for each controller, or for several together (`cpu,cpuacct`, with symbolic links of their
 * names). Processes may stay in a cgroup that has children, so nothing is moved:
 *
 *   memory/services/web.service/    pids/services/web.service/    ...
 */
import { access, readdir, realpath } from "node:fs/promises";
import { join } from "node:path";

import type { CgroupPlace } from "./cgroup-usage.ts";
import { CONTROLLERS, type Controller, VERSION_1 } from "./dialect.ts";
import { describeControllers, SERVICES, type TreeLayout, tryMakeDirectory } from "./tree-layout.ts";

/** The first of them lists the processes of a service, also while one is still joining: the freezer is to hold all. */
const JOINED = ["freezer", ...CONTROLLERS] as const;
type Joined = (typeof JOINED)[number];

/** @returns undefined if there is no hierarchy of any of the controllers. */
export async function openLegacyTree(root: string): Promise<TreeLayout | undefined> {
  const mounts = await findHierarchies(root);
  const [first] = mounts.values();
  if (first === undefined) return undefined;
  const { made, refusals } = await makeFolders(mounts);
  return {
    version: 1,
    machine: placeOf(mounts),
    isKernelRoot: await isThere(join(first, "release_agent")),
    services: placeOf(made),
    folders: [...new Set(made.values())],
    freezer: made.get("freezer"),
    controllers: describeControllers((name) => {
      if (made.has(name)) return null;
      const refusal = refusals.get(name);
      if (refusal !== undefined) return `no cgroup can be made for the ${name} controller (${refusal})`;
      return `this machine gives the enclave no ${name} controller`;
    }),
  };
}

function placeOf(directories: ReadonlyMap<Joined, string>): CgroupPlace {
  const controllers = CONTROLLERS.flatMap((name): [Controller, string][] => {
    const directory = directories.get(name);
    return directory === undefined ? [] : [[name, directory]];
  });
  return { dialect: VERSION_1, directories: new Map(controllers) };
}

/** Real paths, so that links to one hierarchy are one. */
async function findHierarchies(root: string): Promise<Map<Joined, string>> {
  // What cannot be listed has nothing to use.
  const entries = await readdir(root).catch(() => []);
  const found = new Map<Joined, string>();
  for (const name of JOINED) {
    const entry =
      entries.find((each) => each === name) ?? entries.find((each) => each.split(",").includes(name));
    if (entry === undefined) continue;
    const path = await realpath(join(root, entry)).catch(() => "");
    if (path !== "" && (await isThere(join(path, "cgroup.procs")))) found.set(name, path);
  }
  return found;
}

async function makeFolders(
  mounts: ReadonlyMap<Joined, string>,
): Promise<{ readonly made: Map<Joined, string>; readonly refusals: Map<Joined, string> }> {
  const made = new Map<Joined, string>();
  const refusals = new Map<Joined, string>();
  for (const [name, mount] of mounts) {
    const folder = join(mount, SERVICES);
    const refusal = await tryMakeDirectory(folder);
    if (refusal === undefined) made.set(name, folder);
    else refusals.set(name, refusal);
  }
  return { made, refusals };
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
