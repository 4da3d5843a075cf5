/**
 * The cgroups of a whole enclave of the local backend, made by root of the host and delegated to root of the enclave:
 *
 *   version 1   <hierarchy>/<cgroup of this process>/enclave-toolkit-NAME-PID-RANDOM, so that the limits of whoever
 *               started the enclave hold for it too
 *   version 2   <mount>/enclave-toolkit/NAME-PID-RANDOM, at the top, because a cgroup that holds processes, as ours
 *               does, can give its children no controllers
 *
 * Version 1 is taken where it has the memory controller. The enclave owns the directory and the lists of processes,
 * and so may make cgroups below; the files with its own limits stay those of the host.
 */
import { randomBytes } from "node:crypto";
import { chown, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";

import { isErrno } from "../../../core/errors.ts";
import { type CgroupMount, parseCgroupMounts } from "./cgroup-mounts.ts";
import { removeCgroupTree, removeStaleCgroups } from "./cgroup-removal.ts";
import { type Held, type Limited, refuseLimits, tryWrite, writeMachineLimits } from "./machine-limits.ts";

export interface MachineCgroupsOptions {
  /** Of the enclave: lower case letters, digits, `_` and `-`. */
  readonly name: string;
  /** Ids on the host of root of the enclave. */
  readonly rootUid: number;
  readonly rootGid: number;
  readonly memoryBytes: number;
  readonly cpus: number;
  /** Processes and threads. */
  readonly pids: number;
  /** For tests: instead of /proc. */
  readonly procRoot?: string;
  /** For tests: makes a cgroup with its files where no kernel does. */
  readonly makeCgroup?: (path: string) => Promise<void>;
}

/** Disposing removes them, and throws E_CGROUP_BUSY naming what is left after 5 s. */
export interface MachineCgroups extends AsyncDisposable {
  /** Options of the launcher: `--cgroup NAME:DIR` each. */
  readonly arguments: readonly string[];
  readonly limits: Readonly<Record<Limited, Held>>;
}

/** What the enclave may write in its own cgroup. Not every kernel and version has each. */
const DELEGATED: readonly string[] = ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks"];
const ENABLED: readonly string[] = ["+memory", "+pids", "+cpu"];
const TOP = "enclave-toolkit";
const NOT_ROOT = "cgroups can be made only by root: run as root to have this limit";

interface Place {
  /** In the launcher's `--cgroup NAME:DIR`. */
  readonly launcherName: string;
  readonly mount: CgroupMount;
  readonly parent: string;
  readonly prefix: string;
}

/** Never refuses: where there are no cgroups, `limits` says why. */
export async function openMachineCgroups(options: MachineCgroupsOptions): Promise<MachineCgroups> {
  if (!/^[a-z0-9][a-z0-9_-]*$/.test(options.name))
    throw new TypeError(`${options.name} is no name of an enclave`);
  if (process.geteuid?.() !== 0) return withoutCgroups(NOT_ROOT);
  await using opening = new AsyncDisposableStack();
  const limits: Partial<Record<Limited, Held>> = {};
  const names: string[] = [];
  for (const place of await findPlaces(options.procRoot ?? "/proc")) {
    const made = await makePlace(place, options, opening);
    Object.assign(limits, made.limits);
    if (made.directory !== undefined) names.push("--cgroup", `${place.launcherName}:${made.directory}`);
  }
  const owned = opening.move();
  return {
    arguments: names,
    limits: complete(limits),
    [Symbol.asyncDispose]: async () => await owned.disposeAsync(),
  };
}

function withoutCgroups(why: string): MachineCgroups {
  const held = { enforced: false, why };
  return {
    arguments: [],
    limits: { memory: held, cpus: held, pids: held },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function complete(limits: Partial<Record<Limited, Held>>): Record<Limited, Held> {
  const absent = (controller: string): Held => ({
    enforced: false,
    why: `this machine has no cgroups with the ${controller} controller`,
  });
  const { memory = absent("memory"), cpus = absent("cpu"), pids = absent("pids") } = limits;
  return { memory, cpus, pids };
}

async function findPlaces(procRoot: string): Promise<Place[]> {
  const [mountinfo, cgroup] = await Promise.all(
    ["mountinfo", "cgroup"].map(async (name) => await readFile(join(procRoot, "self", name), "utf8")),
  );
  const mounts = parseCgroupMounts(mountinfo ?? "", cgroup ?? "");
  const legacy = mounts.filter((mount) => !mount.isUnified);
  const unified = mounts.find((mount) => mount.isUnified);
  const isLegacy = unified === undefined || legacy.some((mount) => mount.controllers.includes("memory"));
  if (!isLegacy) {
    return [{ launcherName: "", mount: unified, parent: join(unified.mountPoint, TOP), prefix: "" }];
  }
  return legacy.map((mount) => ({
    launcherName: mount.controllers.join(","),
    mount,
    parent: mount.own,
    prefix: `${TOP}-`,
  }));
}

interface Made {
  /** Absent: it could not be made, and the limits say why. */
  readonly directory?: string;
  readonly limits: Partial<Record<Limited, Held>>;
}

async function makePlace(
  place: Place,
  options: MachineCgroupsOptions,
  owned: AsyncDisposableStack,
): Promise<Made> {
  const { mount, parent, prefix } = place;
  const unique = `${options.name}-${process.pid}-${randomBytes(4).toString("hex")}`;
  const directory = join(parent, prefix + unique);
  const make = options.makeCgroup ?? (async (path) => await mkdir(path, 0o755));
  try {
    if (mount.isUnified) await makeParent(mount.mountPoint, parent, make);
    await removeStaleCgroups(parent, prefix);
    await make(directory);
    owned.defer(async () => await removeCgroupTree(directory));
    const limits = await writeMachineLimits(directory, mount, options);
    await delegate(directory, options);
    return { directory, limits };
  } catch (error) {
    if (!isErrno(error)) throw error;
    const why = `this machine does not let root make cgroups in ${parent} (${error.code ?? ""})`;
    return { limits: refuseLimits(mount, why) };
  }
}

/** Stays when the enclave goes: others may be about to use it. */
async function makeParent(
  mountPoint: string,
  parent: string,
  make: (path: string) => Promise<void>,
): Promise<void> {
  try {
    await make(parent);
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
  }
  // What is refused has no file in the cgroups below, and that is told there.
  for (const directory of [mountPoint, parent]) {
    const path = join(directory, "cgroup.subtree_control");
    if ((await tryWrite(path, ENABLED.join(" "))) === undefined) continue;
    // Not all of them together: those that there are.
    for (const one of ENABLED) await tryWrite(path, one);
  }
}

async function delegate(directory: string, { rootUid, rootGid }: MachineCgroupsOptions): Promise<void> {
  for (const name of DELEGATED) {
    try {
      await chown(join(directory, name), rootUid, rootGid);
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
    }
  }
  await chown(directory, rootUid, rootGid);
}
