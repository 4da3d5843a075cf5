/** Where the packages of a lock come from besides the system's own sources: folders of .debs, archives of old versions. */
import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { copyFile, mkdir, readdir, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

import { isErrno, KitError } from "../core/errors.ts";
import type { PackageSource } from "../wire/image-spec.ts";
import type { AptSystem } from "./apt-program.ts";
import type { LockedPackage } from "./locked-package.ts";

const MAX_FILES = 100_000;

/**
 * Copies those of `absent` that folders of `sources` have into `debs`, by size and digest, whatever they are called.
 * @throws E_CONFIG_FILE_MISSING, E_IMAGE_TOO_MANY_FILES
 */
export async function takeFromDirectories(
  absent: readonly LockedPackage[],
  sources: readonly PackageSource[],
  debs: string,
): Promise<void> {
  const wanted = groupBySize(absent);
  for (const source of sources) {
    if (source.kind !== "directory") continue;
    for (const name of await listDebs(source.path)) await takeFile(join(source.path, name), wanted, debs);
  }
}

function groupBySize(entries: readonly LockedPackage[]): ReadonlyMap<number, readonly LockedPackage[]> {
  const groups = new Map<number, LockedPackage[]>();
  for (const entry of entries) groups.set(entry.sizeBytes, [...(groups.get(entry.sizeBytes) ?? []), entry]);
  return groups;
}

async function listDebs(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch((cause: unknown) => {
    const reason = isErrno(cause) ? cause.code : String(cause);
    throw new KitError("E_CONFIG_FILE_MISSING", `cannot read ${directory}: ${reason}`, { cause });
  });
  if (names.length > MAX_FILES)
    throw new KitError("E_IMAGE_TOO_MANY_FILES", `${directory} holds more than ${MAX_FILES} files`);
  return names.filter((name) => name.endsWith(".deb")).sort();
}

async function takeFile(
  path: string,
  wanted: ReadonlyMap<number, readonly LockedPackage[]>,
  debs: string,
): Promise<void> {
  const candidates = wanted.get((await stat(path)).size) ?? [];
  if (candidates.length === 0) return;
  const temporary = join(debs, `.${randomBytes(6).toString("hex")}.tmp`);
  try {
    await copyFile(path, temporary);
    const hash = createHash("sha256");
    await pipeline(createReadStream(temporary), hash);
    const sha256 = hash.digest("hex");
    if (candidates.some((entry) => entry.sha256 === sha256))
      await rename(temporary, join(debs, `${sha256}.deb`));
  } finally {
    await rm(temporary, { force: true });
  }
}

/**
 * A system for apt whose only sources are the snapshots, with the machine's own keys.
 * @returns undefined where no source is a snapshot
 */
export async function snapshotSystem(
  sources: readonly PackageSource[],
  system: AptSystem,
  cacheDir: string,
): Promise<AptSystem | undefined> {
  const snapshots = sources.filter((source) => source.kind === "snapshot");
  if (snapshots.length === 0) return undefined;
  const etc = system.etcDirectory ?? "/etc/apt";
  const keyrings = await presentKeyrings(etc);
  const lines = snapshots.map((source) => sourceLines(source, keyrings));
  const text = `${lines.join("\n")}\n`;
  const name = createHash("sha256").update(text).digest("hex").slice(0, 32);
  const etcDirectory = join(cacheDir, "sources", name);
  await mkdir(join(etcDirectory, "sources.list.d"), { recursive: true });
  await mkdir(join(etcDirectory, "preferences.d"), { recursive: true });
  await linkKeys(etc, etcDirectory);
  await writeFile(join(etcDirectory, "sources.list"), text);
  return { ...system, etcDirectory };
}

/** Where distributions keep the keys of their archives. */
const KEYRINGS = ["debian-archive-keyring.gpg", "ubuntu-archive-keyring.gpg"].map(
  (name) => `/usr/share/keyrings/${name}`,
);

/** Those, and what the operator trusts for every source. */
async function presentKeyrings(etc: string): Promise<string[]> {
  const folder = join(etc, "trusted.gpg.d");
  const names = await readdir(folder).catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  });
  const trusted = names.filter((name) => /^[\w.-]+\.(?:asc|gpg)$/.test(name)).sort();
  const paths = [...KEYRINGS, ...trusted.map((name) => join(folder, name))];
  const isThere = await Promise.all(paths.map(async (path) => await isFile(path)));
  return paths.filter((_path, index) => isThere[index]);
}

async function isFile(path: string): Promise<boolean> {
  return await stat(path).then(
    (info) => info.isFile(),
    () => false,
  );
}

type Snapshot = Extract<PackageSource, { kind: "snapshot" }>;

/** A snapshot's lists are as old as it is: that they expired is no sign of an attack. */
function sourceLines({ url, suites, components }: Snapshot, keyrings: readonly string[]): string {
  const keys = keyrings.length === 0 ? "" : ` signed-by=${keyrings.join(",")}`;
  const archive = `deb [check-valid-until=no${keys}] ${url}`;
  return suites
    .map((suite) => `${archive} ${suite} ${suite.endsWith("/") ? "" : components.join(" ")}`)
    .join("\n");
}

async function linkKeys(from: string, to: string): Promise<void> {
  for (const name of ["trusted.gpg.d", "auth.conf.d"]) {
    await symlink(join(from, name), join(to, name)).catch((error: unknown) => {
      if (!isErrno(error, "EEXIST")) throw error;
    });
  }
}
