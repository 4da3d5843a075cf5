/**
 * What the whole enclave uses. Delegated cgroups tell it like those of services. The kernel's own root has fewer files,
 * and there the machine is what counts: /proc/meminfo (lines of `Name:   1234 kB`), the first line of /proc/stat (CPU
 * time by kind, in hundredths of a second) and /proc/loadavg (`0.00 0.01 0.05 2/118 4242`: 118 threads in all).
 */
import { join } from "node:path";

import { type CgroupUsage, type OwnLimits, readOwnLimits, readUsage } from "./cgroup-usage.ts";
import { readControl } from "./control-file.ts";
import type { TreeLayout } from "./tree-layout.ts";

/** Null: not known here; a limit of null is none. */
export type MachineUsage = CgroupUsage & OwnLimits;

const KIB = 1024;
const USEC_PER_TICK = 10_000;
/** user, nice, system, idle, iowait, irq, softirq, steal; guest is part of user. */
const BUSY_COLUMNS: readonly number[] = [0, 1, 2, 5, 6, 7];

/** @throws E_CGROUP_FILE, E_CGROUP_FORMAT */
export async function readMachine(layout: TreeLayout, procRoot: string): Promise<MachineUsage> {
  const [usage, limits] = await Promise.all([readUsage(layout.machine), readOwnLimits(layout.machine)]);
  if (!layout.isKernelRoot) return { ...usage, ...limits };
  const text = async (name: string): Promise<string> => (await readControl(join(procRoot, name))) ?? "";
  const [meminfo, stat, loadavg] = await Promise.all([text("meminfo"), text("stat"), text("loadavg")]);
  const totalBytes = parseMeminfo(meminfo, "MemTotal");
  const availableBytes = parseMeminfo(meminfo, "MemAvailable");
  const isKnown = totalBytes !== null && availableBytes !== null;
  return {
    ...limits,
    cpuUsec: usage.cpuUsec ?? parseCpuUsec(stat),
    memoryBytes: isKnown ? Math.max(0, totalBytes - availableBytes) : usage.memoryBytes,
    memoryPeakBytes: usage.memoryPeakBytes,
    memoryLimitBytes: limits.memoryLimitBytes ?? totalBytes,
    pids: usage.pids ?? parseThreads(loadavg),
  };
}

/** @returns bytes, or null if there is no such line. */
export function parseMeminfo(text: string, name: string): number | null {
  const line = text.split("\n").find((each) => each.startsWith(`${name}:`));
  const digits = /^[A-Za-z]+: +([0-9]{1,12}) kB$/.exec(line ?? "")?.[1];
  return digits === undefined ? null : Number(digits) * KIB;
}

/** @returns CPU time in microseconds, or null if the first line is not that of all CPUs. */
export function parseCpuUsec(text: string): number | null {
  const columns = /^cpu +([0-9]{1,15}(?: [0-9]{1,15}){7,})$/m.exec(text.slice(0, text.indexOf("\n")))?.[1];
  if (columns === undefined) return null;
  const ticks = columns.split(" ").map(Number);
  return BUSY_COLUMNS.reduce((sum, column) => sum + (ticks[column] ?? 0), 0) * USEC_PER_TICK;
}

/** @returns threads of all processes and of the kernel, or null. */
export function parseThreads(text: string): number | null {
  const digits = /^(?:[0-9.]+ ){3}[0-9]+\/([0-9]{1,9}) [0-9]+\n$/.exec(text)?.[1];
  return digits === undefined ? null : Number(digits);
}
