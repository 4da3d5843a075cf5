/** The cgroup of one service: limits, what is used, and the end of everything in it. */
import { mkdir, rmdir } from "node:fs/promises";
import { join } from "node:path";

import { isErrno, KitError } from "../../core/errors.ts";
import { killCgroup, readIds, waitUntil } from "./cgroup-killer.ts";
import {
  type CgroupCounters,
  type CgroupPlace,
  type CgroupUsage,
  CounterReader,
  readUsage,
} from "./cgroup-usage.ts";
import { writeControl } from "./control-file.ts";
import type { CgroupLimits, Controller, LimitWrite } from "./dialect.ts";
import type { TreeLayout } from "./tree-layout.ts";

/** A process that has ended may be counted for a moment longer. */
const REMOVE_MS = 2_000;
/** For the parents of killed processes to reap them. */
const REAP_MS = 200;
/** The file is not there, or the feature behind it is switched off. */
const ABSENT: readonly string[] = ["ENOENT", "EOPNOTSUPP"];

export class ServiceCgroup implements AsyncDisposable {
  /** For service-exec's `--cgroup`, in this order. */
  readonly directories: readonly string[];
  readonly #name: string;
  readonly #place: CgroupPlace;
  readonly #freezer: string | undefined;
  readonly #counters: CounterReader;
  #base: CgroupCounters = { oomKills: 0, pidsRefused: 0, cpuUsec: 0 };
  #killing: Promise<void> = Promise.resolve();

  private constructor(name: string, layout: TreeLayout) {
    // The suffix keeps names apart from those of the kernel's files, of which version 1 has one called `tasks`.
    const own = (folder: string): string => join(folder, `${name}.service`);
    const { dialect, directories } = layout.services;
    const entries = [...directories].map(([key, folder]): [Controller, string] => [key, own(folder)]);
    this.directories = layout.folders.map(own);
    this.#name = name;
    this.#place = { dialect, directories: new Map(entries) };
    this.#freezer = layout.freezer === undefined ? undefined : own(layout.freezer);
    this.#counters = new CounterReader(this.#place);
  }

  /** @throws E_CGROUP_SETUP, E_CGROUP_LIMIT, E_CGROUP_KILL, E_CGROUP_FILE, E_CGROUP_FORMAT */
  static async open(name: string, layout: TreeLayout, limits: CgroupLimits): Promise<ServiceCgroup> {
    if (!/^[a-z0-9][a-z0-9_-]{0,63}$/.test(name)) throw new TypeError(`${name} is no name of a service`);
    await using opening = new AsyncDisposableStack();
    const cgroup = new ServiceCgroup(name, layout);
    opening.use(cgroup);
    let isNew = true;
    for (const directory of cgroup.directories) {
      const isMade = await makeCgroup(name, directory);
      if (isMade) opening.defer(async () => await removeCgroup(directory));
      isNew &&= isMade;
    }
    // In one that an earlier supervisor made, what it left is ended, and what it counted does not count.
    if (!isNew) {
      await cgroup.killAll();
      cgroup.#base = await cgroup.#counters.read();
    }
    await cgroup.setLimits(limits);
    opening.move();
    return cgroup;
  }

  /** Since it was made. @throws E_CGROUP_FILE, E_CGROUP_FORMAT */
  async readUsage(): Promise<CgroupUsage> {
    const usage = await readUsage(this.#place);
    return { ...usage, cpuUsec: difference(usage.cpuUsec, this.#base.cpuUsec) };
  }

  /** Since it was made; three system calls on files that stay open. @throws E_CGROUP_FILE, E_CGROUP_FORMAT */
  async readCounters(): Promise<CgroupCounters> {
    const counters = await this.#counters.read();
    return {
      oomKills: counters.oomKills - this.#base.oomKills,
      pidsRefused: counters.pidsRefused - this.#base.pidsRefused,
      cpuUsec: difference(counters.cpuUsec, this.#base.cpuUsec),
    };
  }

  /** A limit that is left out ends; one that this machine cannot keep is passed over. @throws E_CGROUP_LIMIT */
  async setLimits(limits: CgroupLimits): Promise<void> {
    for (const write of this.#place.dialect.limitWrites(limits)) {
      const directory = this.#place.directories.get(write.controller);
      if (directory !== undefined) await this.#setLimit(join(directory, write.file), write);
    }
  }

  /**
   * Resolves when no process is left, and those that were count no more against the limit of the next run, unless
   * nobody reaps them.
   * @throws E_CGROUP_KILL after 5 s, E_CGROUP_FILE, E_CGROUP_FORMAT
   */
  async killAll(): Promise<void> {
    const [members] = this.directories;
    if (members === undefined) return;
    // One after the other: who has waited for it may thaw what another has just frozen.
    const mine = this.#killAfter(this.#killing, members);
    this.#killing = mine.catch(() => undefined);
    await mine;
  }

  /** After its last process has ended; not to be used any more. @throws E_CGROUP_BUSY, naming what is left */
  async remove(): Promise<void> {
    await this[Symbol.asyncDispose]();
    const results = await Promise.allSettled(this.directories.map(removeCgroup));
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  /** Closes files; the cgroup stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#counters[Symbol.asyncDispose]();
  }

  async #killAfter(before: Promise<void>, members: string): Promise<void> {
    await before;
    await killCgroup({ members, freezer: this.#freezer });
    await waitUntil(REAP_MS, async () => ((await readUsage(this.#place)).pids ?? 0) === 0);
  }

  async #setLimit(path: string, { text, optional, otherwise }: LimitWrite): Promise<void> {
    try {
      await writeControl(path, text);
    } catch (error) {
      if (!isErrno(error)) throw error;
      const { code = "" } = error;
      if (optional === true && ABSENT.includes(code)) return;
      if (otherwise !== undefined && code === "EINVAL") return await writeControl(path, otherwise);
      const message = `service ${this.#name}: the kernel refuses ${JSON.stringify(text)} for ${path}: ${code}`;
      throw new KitError("E_CGROUP_LIMIT", message, { cause: error });
    }
  }
}

function difference(value: number | null, base: number | null): number | null {
  return value === null ? null : value - (base ?? 0);
}

/** @returns false if it was there. */
async function makeCgroup(name: string, directory: string): Promise<boolean> {
  try {
    await mkdir(directory, 0o755);
    return true;
  } catch (error) {
    if (isErrno(error, "EEXIST")) return false;
    const reason = isErrno(error) ? (error.code ?? "") : String(error);
    const message = `service ${name}: cannot make the cgroup ${directory}: ${reason}`;
    throw new KitError("E_CGROUP_SETUP", message, { cause: error });
  }
}

async function removeCgroup(directory: string): Promise<void> {
  if (await waitUntil(REMOVE_MS, async () => await tryRemove(directory))) return;
  const pids = (await readIds(join(directory, "cgroup.procs"))).slice(0, 10);
  const holder = pids.length > 0 ? `processes ${pids.join(", ")}` : "another cgroup";
  throw new KitError("E_CGROUP_BUSY", `${directory} still holds ${holder}`, { details: { pids } });
}

async function tryRemove(directory: string): Promise<boolean> {
  try {
    await rmdir(directory);
  } catch (error) {
    if (isErrno(error, "EBUSY")) return false;
    if (!isErrno(error, "ENOENT")) {
      throw new KitError("E_CGROUP_FILE", `cannot remove ${directory}`, { cause: error });
    }
  }
  return true;
}
