/** What both versions of cgroups come to once they are set up: a folder for services, and what it can limit. */
import { mkdir } from "node:fs/promises";

import { isErrno } from "../../core/errors.ts";
import type { CgroupPlace } from "./cgroup-usage.ts";
import { CONTROLLERS, type Controller, type Dialect } from "./dialect.ts";

export interface Availability {
  readonly available: boolean;
  /** Why not, else null. */
  readonly why: string | null;
}

export type Controllers = Readonly<Record<Controller, Availability>>;

export interface TreeLayout {
  readonly version: 1 | 2 | null;
  /** The whole. */
  readonly machine: CgroupPlace;
  /** True if the whole is the kernel's own root, and not what a host has delegated. */
  readonly isKernelRoot: boolean;
  /** Folder of the services' cgroups, as the controllers have it. */
  readonly services: CgroupPlace;
  /** All such folders, in the order in which a process joins; none where there are no cgroups. */
  readonly folders: readonly string[];
  /** That of the freezer, in version 1. */
  readonly freezer: string | undefined;
  readonly controllers: Controllers;
}

/** Folder of the services' cgroups. */
export const SERVICES = "services";

/** A layout without anything, for one reason. */
export function emptyLayout(dialect: Dialect, why: string): TreeLayout {
  const nowhere = { dialect, directories: new Map<Controller, string>() };
  return {
    version: null,
    machine: nowhere,
    isKernelRoot: false,
    services: nowhere,
    folders: [],
    freezer: undefined,
    controllers: describeControllers(() => why),
  };
}

/** @param whyNot reason for a controller that is not available, else null */
export function describeControllers(whyNot: (controller: Controller) => string | null): Controllers {
  const describe = (controller: Controller): Availability => {
    const why = whyNot(controller);
    return { available: why === null, why };
  };
  const [memory, pids, cpu, cpuacct] = CONTROLLERS;
  return {
    memory: describe(memory),
    pids: describe(pids),
    cpu: describe(cpu),
    cpuacct: describe(cpuacct),
  };
}

/** @returns the errno with which the directory was refused; undefined if it is there now. */
export async function tryMakeDirectory(path: string): Promise<string | undefined> {
  try {
    await mkdir(path, 0o755);
  } catch (error) {
    if (!isErrno(error)) throw error;
    if (error.code !== "EEXIST") return error.code;
  }
  return undefined;
}
