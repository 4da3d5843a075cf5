/**
 * Package lists in private directories. Each refresh makes a new generation, so no lock is needed: a reader keeps the
 * generation it began with, two refreshers at once make two, and the newest complete one is used next.
 *
 *   <cacheDir>/apt/<architecture>-<digest of sources>/<time>-<random>/{state,cache,apt.conf,complete.json}
 *
 * `complete.json` is written last. A generation is removed an hour after a newer one replaced it; no run of apt lasts
 * that long.
 */
import { randomBytes } from "node:crypto";
import { link, mkdir, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../core/atomic-file.ts";
import { isErrno } from "../core/errors.ts";
import { aptError, type AptResult, type AptRun, type AptSystem, runApt } from "./apt-program.ts";
import { readAptSettings } from "./apt-settings.ts";
import type { PackageSource } from "../wire/image-spec.ts";
import type { DebianArchitecture } from "./locked-package.ts";
import { snapshotSystem } from "./package-sources.ts";

export const LISTS_MAX_AGE_MS = 24 * 3600 * 1000;
const KEEP_OLD_MS = 3600 * 1000;
const UPDATE_TIMEOUT_MS = 300_000;

export interface AptOptions {
  readonly architecture: DebianArchitecture;
  /** The toolkit's cache; everything of apt lies below `<cacheDir>/apt` and `<cacheDir>/debs`. */
  readonly cacheDir: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: PackageProgress) => void) | undefined;
  readonly system?: AptSystem | undefined;
  /** Besides the system's own; snapshots take their place. */
  readonly sources?: readonly PackageSource[] | undefined;
  /** Lists older than this are refreshed; 24 hours. 0 refreshes always. */
  readonly listsMaxAgeMs?: number | undefined;
}

export interface PackageProgress {
  readonly stage: "update" | "resolve" | "fetch" | "unpack";
  /** Packages done and in all; 0 where nothing is counted. */
  readonly done: number;
  readonly total: number;
  /** Of the packages that are done, and of all. */
  readonly bytes: number;
  readonly totalBytes: number;
}

export interface PackageLists {
  /** Milliseconds since the epoch. */
  readonly updatedAt: number;
  /** What apt said last; part of messages about missing packages. */
  readonly updateLog: string;
  /** Runs a program of apt on these lists. */
  readonly run: (program: string, args: readonly string[], run: ListsRun) => Promise<AptResult>;
}

export type ListsRun = Pick<AptRun, "timeoutMs" | "workingDirectory" | "onLine">;

/**
 * Opens package lists that are young enough, refreshing them first where needed. A failing source is no error while
 * another gives an index; if all fail, older lists are used where there are any.
 * @throws E_IMAGE_APT_UPDATE without any index, E_IMAGE_APT_MISSING.
 */
export async function openPackageLists(options: AptOptions): Promise<PackageLists> {
  const { architecture, signal, sources = [], cacheDir } = options;
  const given = options.system ?? {};
  const system = (await snapshotSystem(sources, given, cacheDir)) ?? given;
  const settings = await readAptSettings({ system, architecture, signal });
  const root = join(options.cacheDir, "apt", `${architecture}-${settings.digest.slice(0, 16)}`);
  await mkdir(root, { recursive: true });
  const newest = (await completeGenerations(root)).at(0);
  const oldest = Date.now() - (options.listsMaxAgeMs ?? LISTS_MAX_AGE_MS);
  if (newest !== undefined && newest.updatedAt > oldest) return openGeneration(newest, options);
  options.onProgress?.({ stage: "update", done: 0, total: 0, bytes: 0, totalBytes: 0 });
  const made = await refresh({ root, config: settings.config, previous: newest, options });
  await removeOld(root, made, newest);
  return openGeneration(made, options);
}

interface Generation {
  readonly directory: string;
  readonly updatedAt: number;
  readonly updateLog: string;
}

function openGeneration(generation: Generation, options: AptOptions): PackageLists {
  const run: PackageLists["run"] = (program, args, init) =>
    runApt(program, [...directoryArguments(generation.directory), ...args], {
      ...init,
      system: options.system ?? {},
      signal: options.signal,
      configPath: join(generation.directory, "apt.conf"),
    });
  return { updatedAt: generation.updatedAt, updateLog: generation.updateLog, run };
}

/** On the command line, since apt.conf has no way to quote every path. */
function directoryArguments(directory: string): string[] {
  const values = {
    "Dir::State": join(directory, "state"),
    "Dir::State::lists": join(directory, "state/lists"),
    "Dir::State::status": join(directory, "state/status"),
    "Dir::State::extended_states": join(directory, "state/extended_states"),
    "Dir::Cache": join(directory, "cache"),
    "Dir::Cache::archives": join(directory, "cache/archives"),
  };
  return Object.entries(values).flatMap(([key, value]) => ["-o", `${key}=${value}`]);
}

interface RefreshInit {
  readonly root: string;
  readonly config: string;
  readonly previous: Generation | undefined;
  readonly options: AptOptions;
}

async function refresh(init: RefreshInit): Promise<Generation> {
  const now = Date.now();
  const directory = join(init.root, `${now}-${randomBytes(4).toString("hex")}`);
  try {
    await makeGeneration(directory, init);
    const lists = openGeneration({ directory, updatedAt: now, updateLog: "" }, init.options);
    const result = await lists.run("apt-get", ["update"], { timeoutMs: UPDATE_TIMEOUT_MS });
    if (!(await hasIndex(directory)))
      throw aptError("E_IMAGE_APT_UPDATE", "apt got no package index", result);
    const updateLog = result.stderr.slice(-4000);
    await writeFileAtomic(join(directory, "complete.json"), JSON.stringify({ updatedAt: now, updateLog }));
    return { directory, updatedAt: now, updateLog };
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
}

async function makeGeneration(directory: string, init: RefreshInit): Promise<void> {
  for (const folder of ["state/lists/partial", "cache/archives/partial"]) {
    await mkdir(join(directory, folder), { recursive: true });
  }
  await writeFile(join(directory, "apt.conf"), init.config);
  await writeFile(join(directory, "state/status"), "");
  if (init.previous !== undefined) await shareLists(init.previous.directory, directory);
}

/** apt replaces list files, never writes into them, so unchanged ones need neither download nor space. */
async function shareLists(from: string, to: string): Promise<void> {
  const names = await readdir(join(from, "state/lists"));
  for (const name of names.filter((name) => /_(?:InRelease|Release|Release\.gpg|Packages)$/.test(name))) {
    await link(join(from, "state/lists", name), join(to, "state/lists", name));
  }
}

async function hasIndex(directory: string): Promise<boolean> {
  const names = await readdir(join(directory, "state/lists"));
  return names.some((name) => /_Packages(?:\.[a-z0-9]+)?$/.test(name));
}

/** Newest first. */
async function completeGenerations(root: string): Promise<Generation[]> {
  const names = (await readdir(root)).filter((name) => /^\d{1,15}-[0-9a-f]{8}$/.test(name));
  const read = await Promise.all(names.map((name) => readGeneration(join(root, name))));
  const complete = read.filter((generation) => generation !== undefined);
  return complete.sort((a, b) => b.updatedAt - a.updatedAt);
}

async function readGeneration(directory: string): Promise<Generation | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(join(directory, "complete.json"), "utf8"));
    const fields: Record<string, unknown> = typeof value === "object" && value !== null ? { ...value } : {};
    const { updatedAt, updateLog } = fields;
    if (typeof updatedAt !== "number" || typeof updateLog !== "string") return undefined;
    return { directory, updatedAt, updateLog };
  } catch (error) {
    if (isErrno(error, "ENOENT") || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** The time of replacement is kept as the time of the folder, so that a run which still reads it has its hour. */
async function removeOld(root: string, current: Generation, replaced: Generation | undefined): Promise<void> {
  const now = Date.now();
  if (replaced !== undefined) await ignoreAbsence(utimes(replaced.directory, now / 1000, now / 1000));
  for (const name of await readdir(root)) {
    const directory = join(root, name);
    // Another build may remove it at the same time.
    const info = await ignoreAbsence(stat(directory));
    const isOld = info !== undefined && info.mtimeMs < now - KEEP_OLD_MS;
    if (isOld && directory !== current.directory) await rm(directory, { recursive: true, force: true });
  }
}

async function ignoreAbsence<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}
