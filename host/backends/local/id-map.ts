/**
 * Which user ids an enclave can have. Root takes a range of its own, far from the host's users, so that root inside is
 * nobody outside; an ordinary user takes his range of /etc/subuid through newuidmap; without one there is one id.
 */
import { access, constants, readFile } from "node:fs/promises";
import { delimiter, join } from "node:path";

/** Last 65536 ids below those that container managers take for themselves (systemd: 524288 to 1879048191). */
const ROOT_RANGE_BASE = 1_878_982_656;
const RANGE_COUNT = 65_536;

export type IdMap =
  /** Real root: ids 0 to count-1 inside are base to base+count-1 outside. */
  | { readonly kind: "root-range"; readonly base: number; readonly count: number }
  /** An ordinary user: 0 is himself, 1 to count are base to base+count-1. */
  | { readonly kind: "user-range"; readonly uid: number; readonly base: number; readonly count: number }
  | { readonly kind: "single" };

export interface Caller {
  readonly uid: number;
  readonly userName: string;
  /** PATH, where newuidmap is looked for. */
  readonly searchPath: string;
}

export async function chooseIdMap(caller: Caller): Promise<IdMap> {
  if (caller.uid === 0 && (await hasHostIds(ROOT_RANGE_BASE, RANGE_COUNT))) {
    return { kind: "root-range", base: ROOT_RANGE_BASE, count: RANGE_COUNT };
  }
  if (!(await canMapRanges(caller.searchPath))) return { kind: "single" };
  const uids = await readRange("/etc/subuid", caller);
  const gids = await readRange("/etc/subgid", caller);
  // One map serves both: newuidmap and newgidmap must allow the same range.
  if (uids === undefined || gids === undefined || uids !== gids) return { kind: "single" };
  return { kind: "user-range", uid: caller.uid, base: uids, count: RANGE_COUNT };
}

/** Arguments of the launcher. */
export function idMapArguments(map: IdMap): string[] {
  switch (map.kind) {
    case "root-range":
      return ["--map", `0:${map.base}:${map.count}`];
    case "user-range":
      return ["--map", `0:${map.uid}:1`, "--map", `1:${map.base}:${map.count}`];
    case "single":
      return ["--map", "self"];
  }
}

/** Names the map in the cache: trees of different owners are different trees. */
export function idMapKey(map: IdMap): string {
  switch (map.kind) {
    case "root-range":
      return `r${map.base}`;
    case "user-range":
      return `u${map.uid}-${map.base}`;
    case "single":
      return "single";
  }
}

/** The host's uid of root inside. */
export function hostRootUid(map: IdMap, callerUid: number): number {
  return map.kind === "root-range" ? map.base : callerUid;
}

/** False for root of a container that was given fewer ids. */
async function hasHostIds(base: number, count: number): Promise<boolean> {
  const text = await readFile("/proc/self/uid_map", "utf8");
  return text.split("\n").some((line) => {
    const [inside = Number.NaN, , length = Number.NaN] = line.trim().split(/\s+/).map(Number);
    return inside <= base && base + count <= inside + length;
  });
}

async function canMapRanges(searchPath: string): Promise<boolean> {
  const found = await Promise.all(["newuidmap", "newgidmap"].map((name) => isInPath(name, searchPath)));
  return found.every(Boolean);
}

async function isInPath(name: string, searchPath: string): Promise<boolean> {
  for (const directory of searchPath.split(delimiter)) {
    const isThere = await access(join(directory, name), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return true;
  }
  return false;
}

/** First id of the caller's first range of at least 65536 ids. */
async function readRange(path: string, caller: Caller): Promise<number | undefined> {
  const text = await readFile(path, "utf8").catch(() => "");
  for (const line of text.split("\n")) {
    const [, who = "", base = "", count = ""] = /^([^:]+):(\d{1,10}):(\d{1,10})$/.exec(line) ?? [];
    const isCaller = who === caller.userName || who === String(caller.uid);
    if (isCaller && Number(count) >= RANGE_COUNT) return Number(base);
  }
  return undefined;
}
