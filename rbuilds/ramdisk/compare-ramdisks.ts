/**
 * What differs between two ramdisks, by path: a file too many or too few does not make all that follow differ. Both
 * are read in step; only entries whose counterpart has not come yet are kept.
 */
import { KitError } from "../../core/errors.ts";
import type { RamdiskEntry } from "./read-ramdisk.ts";

export type RamdiskAttribute =
  | "missing"
  | "extra"
  | "type"
  | "mode"
  | "uid"
  | "gid"
  | "nlink"
  | "mtime"
  | "rdev"
  | "target"
  | "size"
  | "content"
  | "inode"
  | "order";

export interface RamdiskDifference {
  readonly ramdisk: string;
  /** As of RamdiskEntry. */
  readonly path: string;
  readonly attribute: RamdiskAttribute;
  /** What each side has, for people: modes are octal, an entry that is not there is "nothing". */
  readonly expected: string;
  readonly actual: string;
}

export interface RamdiskComparison {
  /** The first MAX_DIFFERENCES. */
  readonly differences: readonly RamdiskDifference[];
  /** All of them. */
  readonly count: number;
}

export const MAX_DIFFERENCES = 100;
/** Of entries that wait for their counterpart and of files with several names; enough for some 500,000. */
const MAX_HELD_BYTES = 256 * 1024 * 1024;
const ENTRY_BYTES = 400;

/**
 * Names of one file are compared by what they are names of. Inode numbers and order of entries follow from everything
 * else, so of these the first difference is told, and only where nothing is missing or extra.
 * @param ramdisk names the pair in every difference.
 * @throws E_RAMDISK_LIMIT for two that have little in common and very many entries; whatever the iterables throw.
 */
export async function compareRamdisks(
  expected: AsyncIterable<RamdiskEntry>,
  actual: AsyncIterable<RamdiskEntry>,
  ramdisk: string,
): Promise<RamdiskComparison> {
  const comparison = new Comparison(ramdisk);
  const left = expected[Symbol.asyncIterator]();
  const right = actual[Symbol.asyncIterator]();
  try {
    for (;;) {
      const [one, other] = await Promise.all([left.next(), right.next()]);
      if (one.done !== true) comparison.add("expected", one.value);
      if (other.done !== true) comparison.add("actual", other.value);
      if (one.done === true && other.done === true) return comparison.finish();
    }
  } finally {
    await Promise.allSettled([left.return?.(), right.return?.()]);
  }
}

type Side = "expected" | "actual";

interface Found {
  readonly entry: RamdiskEntry;
  /** Position among the entries of its side. */
  readonly index: number;
}

class Comparison {
  readonly #ramdisk: string;
  readonly #differences: RamdiskDifference[] = [];
  /** Of one path, the first to come is the first to be compared. */
  readonly #waiting = { expected: new Map<string, Found[]>(), actual: new Map<string, Found[]>() };
  readonly #counts = { expected: 0, actual: 0 };
  readonly #links = new LinkComparison();
  #count = 0;
  #waitingBytes = 0;
  #firstInode: Values | undefined;
  #firstOrder: Values | undefined;

  constructor(ramdisk: string) {
    this.#ramdisk = ramdisk;
  }

  add(side: Side, entry: RamdiskEntry): void {
    const found: Found = { entry, index: this.#counts[side] };
    this.#counts[side] += 1;
    const counterpart = this.#takeWaiting(side === "expected" ? "actual" : "expected", entry.path);
    if (counterpart === undefined) this.#wait(side, found);
    else if (side === "expected") this.#compare(found, counterpart);
    else this.#compare(counterpart, found);
  }

  finish(): RamdiskComparison {
    const { expected, actual } = this.#waiting;
    for (const { entry } of [...expected.values()].flat())
      this.#report({ path: entry.path, attribute: "missing", expected: entry.type, actual: "nothing" });
    for (const { entry } of [...actual.values()].flat())
      this.#report({ path: entry.path, attribute: "extra", expected: "nothing", actual: entry.type });
    const follower = this.#firstOrder ?? this.#firstInode;
    if (expected.size === 0 && actual.size === 0 && follower !== undefined) this.#report(follower);
    return { differences: this.#differences, count: this.#count };
  }

  #takeWaiting(side: Side, path: string): Found | undefined {
    const list = this.#waiting[side].get(path);
    const found = list?.shift();
    if (found === undefined) return undefined;
    if (list?.length === 0) this.#waiting[side].delete(path);
    this.#waitingBytes -= sizeInMemory(found.entry);
    return found;
  }

  #wait(side: Side, found: Found): void {
    const { path } = found.entry;
    this.#waitingBytes += sizeInMemory(found.entry);
    this.#checkMemory();
    const list = this.#waiting[side].get(path);
    if (list === undefined) this.#waiting[side].set(path, [found]);
    else list.push(found);
  }

  #checkMemory(): void {
    if (this.#waitingBytes + this.#links.sizeBytes <= MAX_HELD_BYTES) return;
    const message = `${this.#ramdisk}: the two have too little in common to be compared by path`;
    throw new KitError("E_RAMDISK_LIMIT", message);
  }

  #compare(expected: Found, actual: Found): void {
    const { path } = expected.entry;
    const isTypeSame = expected.entry.type === actual.entry.type;
    for (const [attribute, tell] of isTypeSame ? ATTRIBUTES : ONLY_TYPE) {
      const values = { expected: tell(expected.entry), actual: tell(actual.entry) };
      if (values.expected !== values.actual) this.#report({ path, attribute, ...values });
    }
    const link = this.#links.compare(expected.entry, actual.entry);
    if (link !== undefined) this.#report({ path, attribute: "inode", ...link });
    this.#checkMemory();
    this.#firstInode ??= differenceOf(path, "inode", tellInode(expected.entry), tellInode(actual.entry));
    this.#firstOrder ??= differenceOf(path, "order", tellPlace(expected), tellPlace(actual));
  }

  #report(values: Values): void {
    this.#count += 1;
    if (this.#differences.length < MAX_DIFFERENCES)
      this.#differences.push({ ramdisk: this.#ramdisk, ...values });
  }
}

type Values = Omit<RamdiskDifference, "ramdisk">;

type Tell = (entry: RamdiskEntry) => string;

const ONLY_TYPE: readonly (readonly [RamdiskAttribute, Tell])[] = [["type", ({ type }) => type]];

const ATTRIBUTES: readonly (readonly [RamdiskAttribute, Tell])[] = [
  ["mode", ({ mode }) => mode.toString(8).padStart(4, "0")],
  ["uid", ({ uid }) => String(uid)],
  ["gid", ({ gid }) => String(gid)],
  ["nlink", ({ nlink }) => String(nlink)],
  ["mtime", ({ mtime }) => String(mtime)],
  ["rdev", ({ rdevMajor, rdevMinor }) => `${rdevMajor}:${rdevMinor}`],
  ["target", ({ linkTarget }) => linkTarget ?? ""],
  ["size", ({ type, sizeBytes }) => (type === "file" ? String(sizeBytes) : "")],
  ["content", ({ sha256 }) => sha256 ?? ""],
];

function tellInode({ devMajor, devMinor, inode }: RamdiskEntry): string {
  return devMajor === 0 && devMinor === 0 ? String(inode) : `${inode} of device ${devMajor}:${devMinor}`;
}

function tellPlace({ entry, index }: Found): string {
  return `entry ${index + 1}, in archive ${entry.archive + 1}`;
}

function differenceOf(
  path: string,
  attribute: RamdiskAttribute,
  expected: string,
  actual: string,
): Values | undefined {
  return expected === actual ? undefined : { path, attribute, expected, actual };
}

/** Whether names that are of one file on one side are of one file on the other. */
class LinkComparison {
  /** The first name of each file by what identifies it on that side. */
  readonly #firstNames = { expected: new Map<string, string>(), actual: new Map<string, string>() };
  #sizeBytes = 0;

  /** Of memory, roughly. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  compare(
    expected: RamdiskEntry,
    actual: RamdiskEntry,
  ): { readonly expected: string; readonly actual: string } | undefined {
    if (expected.nlink < 2 && actual.nlink < 2) return undefined;
    if (expected.type === "directory") return undefined;
    const one = this.#firstName("expected", expected);
    const other = this.#firstName("actual", actual);
    if (one === other) return undefined;
    return { expected: `the file ${one}`, actual: `the file ${other}` };
  }

  #firstName(side: Side, entry: RamdiskEntry): string {
    // Alone, a file is the only name of itself whatever its number.
    if (entry.nlink < 2) return entry.path;
    const key = `${entry.archive}/${entry.devMajor}/${entry.devMinor}/${entry.inode}/${entry.type}`;
    const known = this.#firstNames[side].get(key);
    if (known !== undefined) return known;
    this.#firstNames[side].set(key, entry.path);
    this.#sizeBytes += sizeInMemory(entry);
    return entry.path;
  }
}

function sizeInMemory({ path, linkTarget }: RamdiskEntry): number {
  return ENTRY_BYTES + 3 * path.length + 2 * (linkTarget?.length ?? 0);
}
