/** Suggestions for a name that does not exist: what was probably meant. */

const MAX_SUGGESTIONS = 5;

/** The candidate nearest to `name`, if one is near. */
export function nearestName(name: string, candidates: Iterable<string>): string | undefined {
  return nearestNames(name, candidates)[0];
}

/**
 * Up to five candidates near `name`, nearest first: a few edits away (a swap of neighbours is one), or beginning with
 * it. There may be very many candidates: most are passed over by their length.
 */
export function nearestNames(name: string, candidates: Iterable<string>): readonly string[] {
  const limit = name.length < 4 ? 1 : name.length < 9 ? 2 : 3;
  const near: { readonly candidate: string; readonly distance: number }[] = [];
  for (const candidate of candidates) {
    const distance = distanceOf(name, candidate, limit);
    if (distance <= limit) near.push({ candidate, distance });
  }
  near.sort(
    (a, b) =>
      a.distance - b.distance || a.candidate.length - b.candidate.length || order(a.candidate, b.candidate),
  );
  return near.slice(0, MAX_SUGGESTIONS).map(({ candidate }) => candidate);
}

function order(a: string, b: string): number {
  return a < b ? -1 : 1;
}

/** More than `limit` stands for any larger distance. */
function distanceOf(name: string, candidate: string, limit: number): number {
  if (Math.abs(name.length - candidate.length) <= limit) {
    const edits = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (edits <= limit) return edits;
  }
  return name !== "" && candidate.startsWith(name) ? limit : limit + 1;
}

/** Optimal string alignment distance; both words are cut at 64 characters. */
function editDistance(first: string, second: string): number {
  const a = first.slice(0, 64);
  const b = second.slice(0, 64);
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, index) => index)];
  const cell = (i: number, j: number): number => rows[i]?.[j] ?? Number.POSITIVE_INFINITY;
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    rows.push(row);
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = cell(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwap = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swapped = isSwap ? cell(i - 2, j - 2) + 1 : Number.POSITIVE_INFINITY;
      row.push(Math.min(replaced, swapped, cell(i - 1, j) + 1, cell(i, j - 1) + 1));
    }
  }
  return cell(a.length, b.length);
}
