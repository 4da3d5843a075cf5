/**
 * The texts of a cgroup's control files. Those that are read here come in six forms:
 *
 *   single value   `4096\n`                              memory.current, pids.current, cpuacct.usage
 *   limit          `max\n` or a single value             memory.max, pids.max; version 1 says -1, or a number that no
 *                                                        machine has, for none
 *   flat keyed     `oom 0\noom_kill 1\n`                 memory.events, memory.stat, memory.oom_control, cpu.stat
 *   quota          `150000 100000\n` or `max 100000\n`   cpu.max: microseconds of CPU time in each period
 *   ids            `1\n17\n`                             cgroup.procs; 0 is a process outside of the pid namespace
 *   names          `cpu memory pids\n`                   cgroup.controllers
 *
 * They come from the kernel, or, where the host delegates cgroups, from whatever the host has put there: each parser
 * answers undefined to what is not of its form. Numbers have 64 bits in the kernel; above 2^53 they are cut off there.
 */
const MAX_NUMBER_DIGITS = 20;

function toNumber(digits: string): number | undefined {
  if (digits.length > MAX_NUMBER_DIGITS || !/^[0-9]+$/.test(digits)) return undefined;
  return Math.min(Number(digits), Number.MAX_SAFE_INTEGER);
}

/** All of the text but its last newline, without which it is not whole. */
function toLine(text: string): string {
  return text.endsWith("\n") ? text.slice(0, -1) : "";
}

export function parseNumber(text: string): number | undefined {
  return toNumber(toLine(text));
}

/** @returns null for no limit. */
export function parseLimit(text: string): number | null | undefined {
  const line = toLine(text);
  if (line === "max" || line === "-1") return null;
  const limit = toNumber(line);
  return limit === Number.MAX_SAFE_INTEGER ? null : limit;
}

/** The value of one key. @returns null if the file has no such key, as those of old kernels. */
export function parseKeyed(text: string, key: string): number | null | undefined {
  let found: number | null = null;
  for (const line of toLine(text).split("\n")) {
    const [name = "", digits = "", ...rest] = line.split(" ");
    const value = toNumber(digits);
    if (value === undefined || rest.length > 0 || !/^[A-Za-z0-9_.()]+$/.test(name)) return undefined;
    if (name === key) found = value;
  }
  return found;
}

/** @returns a number of CPUs, null for no limit. */
export function parseQuota(text: string): number | null | undefined {
  const [quota = "", period = "", ...rest] = toLine(text).split(" ");
  const periodUsec = toNumber(period);
  if (periodUsec === undefined || periodUsec === 0 || rest.length > 0) return undefined;
  if (quota === "max" || quota === "-1") return null;
  const quotaUsec = toNumber(quota);
  return quotaUsec === undefined ? undefined : quotaUsec / periodUsec;
}

/** Ids of processes that can be named from here. A last line that was cut off is left out. */
export function parseIds(text: string): number[] | undefined {
  const ids: number[] = [];
  for (const line of text
    .slice(0, text.lastIndexOf("\n") + 1)
    .split("\n")
    .slice(0, -1)) {
    const id = toNumber(line);
    if (id === undefined || id >= 2 ** 31) return undefined;
    if (id > 0) ids.push(id);
  }
  return ids;
}

/** An empty list where a tree has no controllers. */
export function parseNames(text: string): string[] | undefined {
  const names = toLine(text)
    .split(" ")
    .filter((name) => name !== "");
  return names.every((name) => /^[a-z0-9_]+$/.test(name)) ? names : undefined;
}
