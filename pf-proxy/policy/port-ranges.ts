/** Lists of port ranges as rules have them: ascending, not overlapping, both ends included. */
import type { PortRange } from "../../wire/egress-policy.ts";

const MAX_PORT = 65_535;

/** Whether a list is one: at least one range, ascending, not overlapping, of ports from 1 to 65535. */
export function isPortList(ranges: readonly PortRange[]): boolean {
  let lastPort = 0;
  for (const { from, to } of ranges) {
    if (!Number.isInteger(from) || !Number.isInteger(to)) return false;
    if (from <= lastPort || to < from || to > MAX_PORT) return false;
    lastPort = to;
  }
  return ranges.length > 0;
}

/** By bisection: a rule can have many ranges, and many rules can be about one name. */
export function includesPort(ranges: readonly PortRange[], port: number): boolean {
  const found = findRange(ranges, port);
  return found !== undefined && port <= found.to;
}

/** Whether some port of `allowed` is not in `denied`; both are in any order here and may overlap. */
export function isPortLeft(allowed: readonly PortRange[], denied: readonly PortRange[]): boolean {
  const closed = mergeRanges(denied);
  // Merged ranges have a gap between them, so one alone must cover all of an allowed range to leave nothing of it.
  return allowed.some(({ from, to }) => (findRange(closed, from)?.to ?? 0) < to);
}

/** The last range that begins at or before the port. */
function findRange(ranges: readonly PortRange[], port: number): PortRange | undefined {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ranges[middle]?.from ?? MAX_PORT) <= port) low = middle + 1;
    else high = middle;
  }
  return ranges[low - 1];
}

/** Ascending; those that overlap or touch are one. */
function mergeRanges(ranges: readonly PortRange[]): readonly PortRange[] {
  const merged: PortRange[] = [];
  for (const range of [...ranges].sort((a, b) => a.from - b.from)) {
    const last = merged.at(-1);
    if (last === undefined || range.from > last.to + 1) merged.push(range);
    else merged[merged.length - 1] = { from: last.from, to: Math.max(last.to, range.to) };
  }
  return merged;
}
