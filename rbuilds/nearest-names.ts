/** Suggestions for a name that does not exist. */

const MAX_SUGGESTIONS = 5;

/**
 * Up to five of `names` that are near `wanted`: few edits away, or with it as a part. Nearest first.
 * @param names may be long (all of Debian); cost is linear in it.
 */
export function nearestNames(wanted: string, names: Iterable<string>): readonly string[] {
  const limit = wanted.length < 4 ? 1 : wanted.length < 9 ? 2 : 3;
  const found: { name: string; distance: number }[] = [];
  for (const name of names) {
    const distance = nameDistance(wanted, name, limit);
    if (distance <= limit) found.push({ name, distance });
  }
  found.sort(
    (a, b) => a.distance - b.distance || a.name.length - b.name.length || (a.name < b.name ? -1 : 1),
  );
  return found.slice(0, MAX_SUGGESTIONS).map((entry) => entry.name);
}

/** Edit distance; a name that starts with the wanted one counts as at the limit. More than `limit` is any larger number. */
function nameDistance(wanted: string, name: string, limit: number): number {
  if (name.startsWith(wanted)) return limit;
  if (Math.abs(name.length - wanted.length) > limit) return limit + 1;
  let previous = Array.from({ length: name.length + 1 }, (_, index) => index);
  for (let row = 1; row <= wanted.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= name.length; column += 1) {
      const substitution = (previous[column - 1] ?? 0) + (wanted[row - 1] === name[column - 1] ? 0 : 1);
      const gap = Math.min(previous[column] ?? 0, current[column - 1] ?? 0) + 1;
      current.push(Math.min(substitution, gap));
    }
    if (Math.min(...current) > limit) return limit + 1;
    previous = current;
  }
  return previous.at(-1) ?? limit + 1;
}
