/**
 * How many uids this user namespace has, from the text of /proc/self/uid_map: lines of `inside outside count`. An
 * ordinary user without a range in /etc/subuid can map exactly one.
 */
export function countUids(uidMap: string): number {
  const counts = uidMap
    .trim()
    .split("\n")
    .map((line) => Number(line.trim().split(/\s+/)[2] ?? 0));
  return counts.reduce((sum, count) => sum + (Number.isSafeInteger(count) ? count : 0), 0);
}
