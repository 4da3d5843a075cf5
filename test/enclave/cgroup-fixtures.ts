/** Cgroups for tests: real ones of version 1 below those of this process, a workload to put into them, and fakes. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { access, mkdir, mkdtemp, readdir, readFile, rm, rmdir, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { promisify } from "node:util";

import { createLog, type Log } from "../../core/log.ts";
import type { ServiceCgroup } from "../../enclave/cgroups/service-cgroup.ts";
import { parseCgroupMounts } from "../../host/backends/local/cgroup-mounts.ts";
import { ROOT } from "../structure/source-files.ts";
import { eventually } from "./eventually.ts";

export const SERVICE_EXEC = join(ROOT, "native", "build", "service-exec");
export const SILENT: Log = createLog({ write: () => undefined, now: () => 0 });

const isRoot = process.getuid?.() === 0;
const mounts = async () =>
  parseCgroupMounts(
    await readFile("/proc/self/mountinfo", "utf8"),
    await readFile("/proc/self/cgroup", "utf8"),
  );

/** Whether this machine lets the tests make cgroups of version 1 with the memory controller. */
export async function hasLegacyCgroups(): Promise<boolean> {
  const memory = (await mounts()).find((mount) => mount.controllers.includes("memory"));
  return isRoot && memory !== undefined && (await isWritable(memory.own));
}

/** Directory of version 2 in which tests may make cgroups; undefined if there is none. */
export async function findUnified(): Promise<string | undefined> {
  const unified = (await mounts()).find((mount) => mount.isUnified);
  return isRoot && unified !== undefined && (await isWritable(unified.own)) ? unified.own : undefined;
}

async function isWritable(directory: string): Promise<boolean> {
  const probe = join(
    directory,
    `enclave-toolkit-probe-${process.pid}-${Math.random().toString(36).slice(2)}`,
  );
  try {
    await mkdir(probe);
    await rmdir(probe);
    return true;
  } catch {
    return false;
  }
}

export async function makeTemporary(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "cgroup-"));
  return { path, [Symbol.asyncDispose]: async () => await rm(path, { recursive: true, force: true }) };
}

/** A folder that looks like the enclave's /sys/fs/cgroup, with links to cgroups made for the test. */
export async function makeLegacyRoot(
  wanted: readonly string[] = ["memory", "pids", "cpu", "cpuacct", "freezer"],
): Promise<AsyncDisposable & { readonly path: string; readonly directories: readonly string[] }> {
  await using making = new AsyncDisposableStack();
  const folder = making.use(await makeTemporary());
  const directories: string[] = [];
  for (const mount of await mounts()) {
    const names = mount.controllers.filter((name) => wanted.includes(name));
    if (names.length === 0) continue;
    const directory = join(mount.own, `enclave-toolkit-test-${process.pid}-${folder.path.slice(-6)}`);
    await mkdir(directory);
    making.defer(async () => await removeTree(directory));
    directories.push(directory);
    for (const name of names) await symlink(directory, join(folder.path, name));
  }
  const owned = making.move();
  return { path: folder.path, directories, [Symbol.asyncDispose]: async () => await owned.disposeAsync() };
}

/** Removes a cgroup and those below, once nobody is left in them. */
export async function removeTree(directory: string): Promise<void> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) if (entry.isDirectory()) await removeTree(join(directory, entry.name));
  await eventually(`nobody is in ${directory}`, async () => {
    const error: unknown = await rmdir(directory).catch((reason: unknown) => reason);
    return error === undefined || (error as NodeJS.ErrnoException).code === "ENOENT";
  });
}

export async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

/** Compiles test/fixtures/enclave/cgroup-workload.c into the folder. */
export async function compileWorkload(folder: string): Promise<string> {
  const program = join(folder, "workload");
  const source = join(ROOT, "test", "fixtures", "enclave", "cgroup-workload.c");
  await promisify(execFile)("cc", ["-static", "-O1", "-o", program, source]);
  return program;
}

export interface Running extends AsyncDisposable {
  readonly child: ChildProcess;
  readonly pid: number;
  /** Exit status or signal. */
  readonly ended: Promise<number | string>;
  /** What it printed so far. */
  readonly text: () => string;
}

/** Runs a program in a service's cgroup, as the supervisor does. */
export function runIn(
  { directories }: Pick<ServiceCgroup, "directories">,
  command: readonly string[],
): Running {
  const joined = directories.flatMap((directory) => ["--cgroup", directory]);
  const words = ["--uid", "0", "--gid", "0", "--cwd", "/", "--no-setid", ...joined, "--", ...command];
  const child = spawn(SERVICE_EXEC, words, { stdio: ["ignore", "pipe", "ignore", "pipe"] });
  let printed = "";
  const output: Readable | null = child.stdout;
  output?.on("data", (chunk) => (printed += String(chunk)));
  const ended = once(child, "exit").then(([code, signal]) => (code as number | null) ?? String(signal));
  const { pid } = child;
  if (pid === undefined) throw new Error("service-exec was not started");
  return {
    child,
    pid,
    ended,
    text: () => printed,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** Writes a tree of plain files, as a kernel would have made them. */
export async function writeTree(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
