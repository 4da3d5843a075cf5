/** Reads what the processes of a cgroup have used, and the cgroup's own limits. */
import { join } from "node:path";

import { KeptControl, parsed, readControl } from "./control-file.ts";
import type { Controller, Dialect, Source } from "./dialect.ts";

/** Where the files of each controller are: one directory with version 2, one a hierarchy with version 1. */
export interface CgroupPlace {
  readonly dialect: Dialect;
  /** No entry: this machine does not have the controller. */
  readonly directories: ReadonlyMap<Controller, string>;
}

/** Null: not known here. */
export interface CgroupUsage {
  /** CPU time in microseconds. */
  readonly cpuUsec: number | null;
  /** Without the page cache that would be given back first. */
  readonly memoryBytes: number | null;
  /** With all page cache. */
  readonly memoryPeakBytes: number | null;
  /** Processes and threads. */
  readonly pids: number | null;
}

export interface OwnLimits {
  readonly memoryLimitBytes: number | null;
  readonly pidsLimit: number | null;
  readonly cpusLimit: number | null;
}

export interface CgroupCounters {
  /** Processes killed because memory ran out. */
  readonly oomKills: number;
  /** Forks refused because of a limit on processes. */
  readonly pidsRefused: number;
  /** Null where the machine does not count it. */
  readonly cpuUsec: number | null;
}

/** @throws E_CGROUP_FILE, E_CGROUP_FORMAT */
export async function readUsage(place: CgroupPlace): Promise<CgroupUsage> {
  const { dialect } = place;
  const [cpuUsec, memoryBytes, memoryPeakBytes, pids] = await Promise.all([
    readSource(place, dialect.cpuUsec),
    readSource(place, dialect.memoryBytes),
    readSource(place, dialect.memoryPeakBytes),
    readSource(place, dialect.pids),
  ]);
  return { cpuUsec, memoryBytes, memoryPeakBytes, pids };
}

/** @throws E_CGROUP_FILE, E_CGROUP_FORMAT */
export async function readOwnLimits(place: CgroupPlace): Promise<OwnLimits> {
  const { dialect } = place;
  const [memoryLimitBytes, pidsLimit, cpusLimit] = await Promise.all([
    readSource(place, dialect.memoryLimitBytes),
    readSource(place, dialect.pidsLimit),
    readSource(place, dialect.cpusLimit),
  ]);
  return { memoryLimitBytes, pidsLimit, cpusLimit };
}

async function readSource(place: CgroupPlace, source: Source): Promise<number | null> {
  const directory = place.directories.get(source.controller);
  if (directory === undefined) return null;
  const paths = source.files.map((file) => join(directory, file));
  return parseSource(source, paths, await Promise.all(paths.map(async (path) => await readControl(path))));
}

function parseSource(
  source: Source,
  paths: readonly string[],
  texts: readonly (string | undefined)[],
): number | null {
  const there = texts.filter((text) => text !== undefined);
  if (there.length < texts.length) return null;
  return parsed(source.parse(there), paths.join(" and "), there.join(""));
}

/** Reads the counters of one cgroup again and again, from files that stay open until it is disposed of. */
export class CounterReader implements AsyncDisposable {
  readonly #oomKills: KeptSource | undefined;
  readonly #pidsRefused: KeptSource | undefined;
  readonly #cpuUsec: KeptSource | undefined;

  constructor({ dialect, directories }: CgroupPlace) {
    const keep = (source: Source): KeptSource | undefined => {
      const directory = directories.get(source.controller);
      const files = source.files.map((file) => new KeptControl(join(directory ?? "", file)));
      return directory === undefined ? undefined : { source, files };
    };
    this.#oomKills = keep(dialect.oomKills);
    this.#pidsRefused = keep(dialect.pidsRefused);
    this.#cpuUsec = keep(dialect.cpuUsec);
  }

  /** @throws E_CGROUP_FILE (also once the cgroup is gone), E_CGROUP_FORMAT */
  async read(): Promise<CgroupCounters> {
    const [oomKills, pidsRefused, cpuUsec] = await Promise.all([
      readKept(this.#oomKills),
      readKept(this.#pidsRefused),
      readKept(this.#cpuUsec),
    ]);
    return { oomKills: oomKills ?? 0, pidsRefused: pidsRefused ?? 0, cpuUsec };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = [this.#oomKills, this.#pidsRefused, this.#cpuUsec];
    const files = all.flatMap((kept) => kept?.files ?? []);
    await Promise.all(files.map(async (file) => await file[Symbol.asyncDispose]()));
  }
}

interface KeptSource {
  readonly source: Source;
  readonly files: readonly KeptControl[];
}

async function readKept(kept: KeptSource | undefined): Promise<number | null> {
  if (kept === undefined) return null;
  const texts = await Promise.all(kept.files.map(async (file) => await file.read()));
  return parseSource(
    kept.source,
    kept.files.map((file) => file.path),
    texts,
  );
}
