/**
 * What the two versions of cgroups call the same things.
 *
 *                     version 2                             version 1
 *   memory limit      memory.max, memory.swap.max 0         memory.limit_in_bytes, the same for memory.memsw
 *   killed for it     memory.events: oom_kill               memory.oom_control: oom_kill
 *   process limit     pids.max                              pids.max
 *   forks refused     pids.events: max                      pids.events: max
 *   CPUs              cpu.max                               cpu.cfs_quota_us, cpu.cfs_period_us
 *   CPU time          cpu.stat: usage_usec                  cpuacct.usage, in nanoseconds
 *
 * Memory in use is what the kernel charges less the page cache that it would give back first (inactive_file), as
 * `docker stats` has it: a service that has merely read a large file has not used that much.
 */
import { parseKeyed, parseLimit, parseNumber, parseQuota } from "./control-format.ts";

export const CONTROLLERS = ["memory", "pids", "cpu", "cpuacct"] as const;
export type Controller = (typeof CONTROLLERS)[number];

/** Absent: not limited. */
export interface CgroupLimits {
  readonly memoryBytes?: number | undefined;
  /** Processes and threads. */
  readonly pids?: number | undefined;
  /** For example 0.5; less than a hundredth counts as that. */
  readonly cpus?: number | undefined;
}

/** One write that sets a part of a limit. */
export interface LimitWrite {
  readonly controller: Controller;
  readonly file: string;
  readonly text: string;
  /** Not every kernel has the file. */
  readonly optional?: true;
  /** Written where the kernel calls the text invalid. */
  readonly otherwise?: string;
}

/** A value and the files that it comes from. */
export interface Source {
  readonly controller: Controller;
  readonly files: readonly string[];
  /** Of the files' texts; null where this kernel does not tell, undefined if a text is malformed. */
  readonly parse: (texts: readonly string[]) => number | null | undefined;
}

export interface Dialect {
  readonly version: 1 | 2;
  readonly oomKills: Source;
  readonly pidsRefused: Source;
  readonly cpuUsec: Source;
  readonly memoryBytes: Source;
  readonly memoryPeakBytes: Source;
  readonly memoryLimitBytes: Source;
  readonly pids: Source;
  readonly pidsLimit: Source;
  readonly cpusLimit: Source;
  /** In the order in which they are valid, whatever the limits were before. */
  limitWrites(limits: CgroupLimits): readonly LimitWrite[];
}

const PERIOD_USEC = 100_000;
/** The kernel takes no less. */
const MIN_QUOTA_USEC = 1_000;

const quotaUsec = (cpus: number): string => String(Math.max(MIN_QUOTA_USEC, Math.round(cpus * PERIOD_USEC)));
const bytes = (limit: number): string => String(Math.floor(limit));

function source(
  controller: Controller,
  file: string,
  parse: (text: string) => number | null | undefined,
): Source {
  return { controller, files: [file], parse: ([text = ""]) => parse(text) };
}

function inUse(total: string, cacheKey: string): Source {
  const parse = ([usage = "", stat = ""]: readonly string[]): number | undefined => {
    const used = parseNumber(usage);
    const cache = parseKeyed(stat, cacheKey);
    return used === undefined || cache === undefined ? undefined : Math.max(0, used - (cache ?? 0));
  };
  return { controller: "memory", files: [total, "memory.stat"], parse };
}

function inMicroseconds(text: string): number | undefined {
  const nanoseconds = parseNumber(text);
  return nanoseconds === undefined ? undefined : Math.floor(nanoseconds / 1000);
}

const SHARED = {
  pidsRefused: source("pids", "pids.events", (text) => parseKeyed(text, "max")),
  pids: source("pids", "pids.current", parseNumber),
  pidsLimit: source("pids", "pids.max", parseLimit),
};

function pidsWrite({ pids }: CgroupLimits): LimitWrite {
  return { controller: "pids", file: "pids.max", text: pids === undefined ? "max" : String(pids) };
}

export const VERSION_2: Dialect = {
  version: 2,
  ...SHARED,
  oomKills: source("memory", "memory.events", (text) => parseKeyed(text, "oom_kill")),
  cpuUsec: source("cpuacct", "cpu.stat", (text) => parseKeyed(text, "usage_usec")),
  memoryBytes: inUse("memory.current", "inactive_file"),
  memoryPeakBytes: source("memory", "memory.peak", parseNumber),
  memoryLimitBytes: source("memory", "memory.max", parseLimit),
  cpusLimit: source("cpu", "cpu.max", parseQuota),
  limitWrites: (limits) => {
    const { memoryBytes, cpus } = limits;
    const memory = "memory";
    return [
      { controller: memory, file: "memory.oom.group", text: "1", optional: true },
      {
        controller: memory,
        file: "memory.swap.max",
        text: memoryBytes === undefined ? "max" : "0",
        optional: true,
      },
      {
        controller: memory,
        file: "memory.max",
        text: memoryBytes === undefined ? "max" : bytes(memoryBytes),
      },
      pidsWrite(limits),
      {
        controller: "cpu",
        file: "cpu.max",
        text: `${cpus === undefined ? "max" : quotaUsec(cpus)} ${PERIOD_USEC}`,
      },
    ];
  },
};

export const VERSION_1: Dialect = {
  version: 1,
  ...SHARED,
  oomKills: source("memory", "memory.oom_control", (text) => parseKeyed(text, "oom_kill")),
  cpuUsec: source("cpuacct", "cpuacct.usage", inMicroseconds),
  memoryBytes: inUse("memory.usage_in_bytes", "total_inactive_file"),
  memoryPeakBytes: source("memory", "memory.max_usage_in_bytes", parseNumber),
  memoryLimitBytes: source("memory", "memory.limit_in_bytes", parseLimit),
  cpusLimit: {
    controller: "cpu",
    files: ["cpu.cfs_quota_us", "cpu.cfs_period_us"],
    parse: ([quota = "", period = ""]) => parseQuota(`${quota.trimEnd()} ${period}`),
  },
  limitWrites: (limits) => {
    const { memoryBytes, cpus } = limits;
    const memory = memoryBytes === undefined ? "-1" : bytes(memoryBytes);
    const quota = cpus === undefined ? "-1" : quotaUsec(cpus);
    const swap = { controller: "memory", file: "memory.memsw.limit_in_bytes", optional: true } as const;
    return [
      // With swap may never be less than without.
      { ...swap, text: "-1" },
      { controller: "memory", file: "memory.limit_in_bytes", text: memory },
      { ...swap, text: memory },
      pidsWrite(limits),
      { controller: "cpu", file: "cpu.cfs_period_us", text: String(PERIOD_USEC) },
      // More than a cgroup above allows is invalid, and then that one is the limit.
      { controller: "cpu", file: "cpu.cfs_quota_us", text: quota, otherwise: "-1" },
    ];
  },
};
