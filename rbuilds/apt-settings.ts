/**
 * apt's configuration for private directories. The system's own apt.conf is not read by the runs that do work: its
 * hooks (docker-clean deletes archives, PackageKit calls D-Bus) have no business here. What the system says about
 * reaching its mirrors (proxies, retries, dates) is copied from `apt-config dump`.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "../core/errors.ts";
import { type AptSystem, runApt } from "./apt-program.ts";
import type { DebianArchitecture } from "./locked-package.ts";

const COPIED =
  /^Acquire::(?:https?|Retries|Check-Valid-Until|Check-Date|Max-ValidTime|Min-ValidTime|Proxy-Auto-Detect|ForceIPv[46]|By-Hash)(?:::[A-Za-z0-9:._/-]*)? "[^"\n]*";$/;
const CONFIG_TIMEOUT_MS = 20_000;

export interface AptSettings {
  /** Text of the private apt.conf. */
  readonly config: string;
  /** Names everything that decides which packages exist: sources, preferences, configuration, architecture. */
  readonly digest: string;
}

export interface AptSettingsOptions {
  readonly system: AptSystem;
  readonly architecture: DebianArchitecture;
  readonly signal?: AbortSignal | undefined;
}

/** Reads the system's sources and settings. @throws E_IMAGE_APT_MISSING */
export async function readAptSettings(options: AptSettingsOptions): Promise<AptSettings> {
  const etc = options.system.etcDirectory ?? "/etc/apt";
  const { signal, system } = options;
  const dump = await runApt("apt-config", ["dump"], { system, signal, timeoutMs: CONFIG_TIMEOUT_MS });
  const copied = dump.stdout.split("\n").filter((line) => COPIED.test(line));
  const config = [...fixedLines(etc, options.architecture), ...copied, ""].join("\n");
  const hash = createHash("sha256").update(config);
  for (const path of await sourceFiles(etc)) {
    hash.update(`\0${path}\0`).update(await readFile(path));
  }
  return { config, digest: hash.digest("hex") };
}

function fixedLines(etc: string, architecture: DebianArchitecture): string[] {
  return [
    'Dir::Etc::main "/dev/null";',
    'Dir::Etc::parts "/dev/null";',
    `Dir::Etc "${etc}";`,
    `APT::Architecture "${architecture}";`,
    `APT::Architectures { "${architecture}"; };`,
    'APT::Sandbox::User "";',
    'APT::Install-Recommends "false";',
    'APT::Install-Suggests "false";',
    'APT::Get::AllowUnauthenticated "false";',
    'Acquire::AllowInsecureRepositories "false";',
    'Acquire::AllowWeakRepositories "false";',
    'Acquire::AllowDowngradeToInsecureRepositories "false";',
    'Acquire::Languages "none";',
    'Acquire::ForceHash "sha256";',
    // The source index cache is only of use to repeated changes of the sources; without it half the space is saved.
    'Dir::Cache::srcpkgcache "";',
  ];
}

async function sourceFiles(etc: string): Promise<string[]> {
  const folders = ["sources.list.d", "preferences.d"].map((name) => join(etc, name));
  const inFolders = await Promise.all(folders.map(listFiles));
  const candidates = [join(etc, "sources.list"), join(etc, "preferences"), ...inFolders.flat()];
  const readable = await Promise.all(candidates.map(isReadableFile));
  return candidates.filter((_, index) => readable[index]).sort();
}

async function listFiles(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).map((name) => join(folder, name));
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

async function isReadableFile(path: string): Promise<boolean> {
  try {
    await readFile(path);
    return true;
  } catch (error) {
    if (isErrno(error)) return false;
    throw error;
  }
}
