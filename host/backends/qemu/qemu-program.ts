/**
 * QEMU of this machine, if it is new enough, else Debian's, unpacked into the cache. At least 7.2, with `microvm` and
 * the vhost-user vsock device.
 */
import { execFile } from "node:child_process";
import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";

import { KitError } from "../../../core/errors.ts";
import { openDebianTool } from "../../../rbuilds/debian-tool.ts";
import type { OpenPackagesOptions } from "../../../rbuilds/debian-packages.ts";

export interface QemuProgram {
  /** Words of the command line that start it. */
  readonly command: readonly [string, ...string[]];
  readonly environment: Readonly<Record<string, string>>;
  /** Folders with firmware; empty: it knows itself. */
  readonly dataFolders: readonly string[];
  /** First line of --version. */
  readonly version: string;
}

export interface FindQemuOptions extends OpenPackagesOptions {
  /** PATH, where an installed one is looked for. */
  readonly searchPath: string;
}

const NAMES = { amd64: "qemu-system-x86_64", arm64: "qemu-system-aarch64" } as const;
const PACKAGES = { amd64: "qemu-system-x86", arm64: "qemu-system-arm" } as const;
const LIBRARIES = { amd64: "x86_64-linux-gnu", arm64: "aarch64-linux-gnu" } as const;
const OLDEST = [7, 2] as const;
/** A guest that breaks out of its devices finds no new programs, no other user, nothing to reschedule. */
const SANDBOX = [
  "-sandbox",
  "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
] as const;
const TIMEOUT_MS = 20_000;

/** @throws E_QEMU_UNUSABLE, E_IMAGE_APT_* */
export async function findQemu(options: FindQemuOptions): Promise<QemuProgram> {
  const installed = await findInstalledQemu(options);
  if (installed !== undefined) return installed;
  const unpacked = await unpackQemu(options);
  const problem = await findProblem(unpacked);
  if (problem !== undefined) throw new KitError("E_QEMU_UNUSABLE", `Debian's QEMU ${problem}`);
  return await confine(unpacked);
}

/** With QEMU's own filter of system calls, where it was built with one. */
async function confine(program: QemuProgram): Promise<QemuProgram> {
  const canBe = (await printed(program, [...SANDBOX, "-M", "help"])) !== undefined;
  return canBe ? { ...program, command: [...program.command, ...SANDBOX] } : program;
}

/** One of this machine that will do; undefined if there is none. */
export async function findInstalledQemu({
  searchPath,
  architecture,
}: Pick<FindQemuOptions, "searchPath" | "architecture">): Promise<QemuProgram | undefined> {
  for (const folder of searchPath.split(delimiter)) {
    const path = join(folder, NAMES[architecture]);
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (!folder.startsWith("/") || !isThere) continue;
    const program = { command: [path] as const, environment: {}, dataFolders: [], version: "" };
    const version = await readVersion(program);
    if (version === undefined) continue;
    const found = { ...program, version };
    if ((await findProblem(found)) === undefined) return await confine(found);
  }
  return undefined;
}

async function unpackQemu(options: FindQemuOptions): Promise<QemuProgram> {
  const { architecture } = options;
  const request = { packages: [PACKAGES[architecture]], program: `/usr/bin/${NAMES[architecture]}` };
  const { command, root } = await openDebianTool(request, options);
  const program: QemuProgram = {
    command,
    environment: { QEMU_MODULE_DIR: join(root, "usr", "lib", LIBRARIES[architecture], "qemu") },
    dataFolders: ["qemu", "seabios"].map((name) => join(root, "usr", "share", name)),
    version: "",
  };
  return { ...program, version: (await readVersion(program)) ?? "" };
}

/** @returns what it lacks, to stand after its name; undefined if nothing */
async function findProblem(program: QemuProgram): Promise<string | undefined> {
  const [, major, minor] = /version (\d+)\.(\d+)/.exec(program.version) ?? [];
  if (major === undefined || minor === undefined) return "does not tell its version";
  const [oldest, oldestMinor] = OLDEST;
  const isOld = Number(major) < oldest || (Number(major) === oldest && Number(minor) < oldestMinor);
  if (isOld) return `is version ${major}.${minor}; ${OLDEST.join(".")} is needed`;
  if (!(await printed(program, ["-M", "help"]))?.includes("microvm")) return "has no machine microvm";
  if (!(await printed(program, ["-device", "help"]))?.includes("vhost-user-vsock-device"))
    return "has no vhost-user-vsock-device";
  return undefined;
}

async function readVersion(program: QemuProgram): Promise<string | undefined> {
  return (await printed(program, ["--version"]))?.split("\n")[0];
}

async function printed(
  { command, environment }: QemuProgram,
  words: readonly string[],
): Promise<string | undefined> {
  const [program, ...first] = command;
  try {
    const options = { env: environment, timeout: TIMEOUT_MS, maxBuffer: 1 << 20 };
    return (await promisify(execFile)(program, [...first, ...words], options)).stdout;
  } catch {
    return undefined;
  }
}
