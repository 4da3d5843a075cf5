/** The processes of a running enclave as the host sees them. */
import { readdir, readFile } from "node:fs/promises";

import type { Testbed } from "./testbed.ts";

export interface ProcessInfo {
  readonly pid: number;
  readonly parent: number;
  readonly command: string;
}

/** Command lines by which the parts of an enclave are known. */
export const PARTS = {
  runner: /dist\/runner\.js/,
  launcher: /native\/build\/launcher /,
  init: /^\/opt\/enclave\/init/,
  supervisor: /supervisor\.mjs/,
  gateway: /gateway\.mjs/,
} as const;

/** Every process below `root`, by a walk over /proc. */
export async function descendants(root: number): Promise<ProcessInfo[]> {
  const processes = await listProcesses();
  const below = (pid: number): ProcessInfo[] =>
    processes.filter((one) => one.parent === pid).flatMap((one) => [one, ...below(one.pid)]);
  return below(root);
}

/** The process of the enclave that `pattern` matches, the runner among them; undefined while there is none. */
export async function findPart(bed: Testbed, pattern: RegExp): Promise<number | undefined> {
  const runner = (await listProcesses()).find((one) => one.command.includes(`runner.js ${bed.stateDir}`));
  if (runner === undefined) return undefined;
  return [runner, ...(await descendants(runner.pid))].find((one) => pattern.test(one.command))?.pid;
}

/** Processes, sockets and mounts that belong to an enclave of this testbed. */
export async function leftovers(bed: Testbed): Promise<string[]> {
  const processes = (await listProcesses()).map((one) => one.command);
  const sockets = await readFile("/proc/net/unix", "utf8");
  const mounts = await readFile("/proc/self/mountinfo", "utf8");
  const lines = [...processes, ...`${sockets}\n${mounts}`.split("\n")];
  return lines.filter((line) => line.includes(bed.stateDir));
}

async function listProcesses(): Promise<ProcessInfo[]> {
  const processes: ProcessInfo[] = [];
  for (const entry of await readdir("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = await readFile(`/proc/${entry}/stat`, "utf8").catch(() => "");
    const command = await readFile(`/proc/${entry}/cmdline`, "utf8").catch(() => "");
    const parent = Number(/^\d+ \(.*\) \S (\d+)/s.exec(stat)?.[1] ?? 0);
    processes.push({ pid: Number(entry), parent, command: command.replaceAll("\0", " ") });
  }
  return processes;
}
