import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { isErrno, KitError } from "../core/errors.ts";
import { aptError, type AptResult } from "./apt-program.ts";
import { type AptOptions, openPackageLists, type PackageLists } from "./apt-lists.ts";
import type { LockedPackage } from "./locked-package.ts";
import { takeFromDirectories } from "./package-sources.ts";

const FETCH_TIMEOUT_MS = 1_800_000;
const POLICY_TIMEOUT_MS = 60_000;

/**
 * The .debs of exactly these packages, downloaded by apt where the cache lacks them, each with the SHA-256 of the
 * lock. They stay in `<cacheDir>/debs/<sha256>.deb`.
 * @returns path of the .deb by package name.
 * @throws E_LOCK_UNAVAILABLE when the mirrors have another version, E_LOCK_MISMATCH when they have other bytes,
 *   E_IMAGE_APT_FETCH when a download failed.
 */
export async function fetchPackages(
  locked: readonly LockedPackage[],
  options: AptOptions,
): Promise<ReadonlyMap<string, string>> {
  const debs = join(options.cacheDir, "debs");
  await mkdir(debs, { recursive: true });
  const paths = new Map(locked.map((entry) => [entry.name, join(debs, `${entry.sha256}.deb`)]));
  const missing = await absentPackages(locked, paths);
  if (missing.length === 0) return paths;
  await takeFromDirectories(missing, options.sources ?? [], debs);
  const absent = await absentPackages(missing, paths);
  if (absent.length > 0) await fetchAbsent(absent, debs, options);
  return paths;
}

async function absentPackages(
  locked: readonly LockedPackage[],
  paths: ReadonlyMap<string, string>,
): Promise<readonly LockedPackage[]> {
  const sizes = await Promise.all(locked.map((entry) => fileSize(paths.get(entry.name) ?? "")));
  return locked.filter((entry, index) => sizes[index] !== entry.sizeBytes);
}

async function fileSize(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** Downloads with the lists at hand; if those are too old for the mirror or the lock, once more with new ones. */
async function fetchAbsent(
  absent: readonly LockedPackage[],
  debs: string,
  options: AptOptions,
): Promise<void> {
  await removeAbandoned(debs);
  const directory = join(debs, `partial-${randomBytes(6).toString("hex")}`);
  await mkdir(directory);
  try {
    const progress = createProgress(absent, options);
    const download = (lists: PackageLists) =>
      lists.run("apt-get", downloadArguments(absent), {
        workingDirectory: directory,
        timeoutMs: FETCH_TIMEOUT_MS,
        onLine: progress,
      });
    const first = await openPackageLists(options);
    if ((await download(first)).status !== 0) {
      const lists = await openPackageLists({ ...options, listsMaxAgeMs: 0 });
      const result = await download(lists);
      if (result.status !== 0) throw await explainFailure(absent, lists, result);
    }
    await keepVerified(absent, directory, debs);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Folders of downloads whose process was killed; none runs longer than its deadlines. */
async function removeAbandoned(debs: string): Promise<void> {
  for (const name of await readdir(debs)) {
    if (!name.startsWith("partial-")) continue;
    const info = await stat(join(debs, name)).catch(() => undefined);
    const isOld = info !== undefined && info.mtimeMs < Date.now() - 3 * FETCH_TIMEOUT_MS;
    if (isOld) await rm(join(debs, name), { recursive: true, force: true });
  }
}

function downloadArguments(absent: readonly LockedPackage[]): string[] {
  return ["download", "--quiet=1", ...absent.map((entry) => `${entry.name}=${entry.version}`)];
}

/** apt prints `Get:7 ` when it begins with the seventh file; the ones before are done then. */
function createProgress(absent: readonly LockedPackage[], options: AptOptions): (line: string) => void {
  const totalBytes = absent.reduce((sum, entry) => sum + entry.sizeBytes, 0);
  const averageBytes = totalBytes / absent.length;
  return (line) => {
    const started = Number(/^Get:(\d{1,6}) /.exec(line)?.[1] ?? 0);
    if (started === 0) return;
    const done = Math.min(started, absent.length) - 1;
    const bytes = Math.round(done * averageBytes);
    options.onProgress?.({ stage: "fetch", done, total: absent.length, bytes, totalBytes });
  };
}

async function keepVerified(
  absent: readonly LockedPackage[],
  directory: string,
  debs: string,
): Promise<void> {
  const names = new Set(await readdir(directory));
  for (const entry of absent) {
    if (!names.has(entry.filename)) {
      throw new KitError("E_IMAGE_APT_FETCH", `apt did not download ${entry.name} ${entry.version}`);
    }
    const path = join(directory, entry.filename);
    const sha256 = await hashFile(path);
    if (sha256 !== entry.sha256) {
      throw new KitError(
        "E_LOCK_MISMATCH",
        `${entry.name} ${entry.version} has SHA-256 ${sha256}, the lock says ${entry.sha256}`,
      );
    }
    await rename(path, join(debs, `${sha256}.deb`));
  }
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

async function explainFailure(
  absent: readonly LockedPackage[],
  lists: PackageLists,
  result: AptResult,
): Promise<KitError> {
  const names = absent.map((entry) => entry.name);
  const shown = await lists.run("apt-cache", ["madison", ...names], { timeoutMs: POLICY_TIMEOUT_MS });
  const available = parseMadison(shown.stdout);
  const gone = absent.find((entry) => !(available.get(entry.name) ?? []).includes(entry.version));
  if (gone === undefined) return aptError("E_IMAGE_APT_FETCH", "apt cannot download", result);
  const newer = available.get(gone.name)?.[0];
  const instead = newer === undefined ? "no version of it" : `version ${newer}`;
  return new KitError(
    "E_LOCK_UNAVAILABLE",
    `the lock names ${gone.name} ${gone.version}, but the sources have ${instead}`,
    { details: { package: gone.name, locked: gone.version, available: newer ?? null } },
  );
}

/** Lines `name | version | source`, newest first. */
function parseMadison(text: string): Map<string, string[]> {
  const versions = new Map<string, string[]>();
  for (const line of text.split("\n")) {
    const [name, version] = line.split("|").map((part) => part.trim());
    if (name === undefined || version === undefined) continue;
    versions.set(name, [...(versions.get(name) ?? []), version]);
  }
  return versions;
}
