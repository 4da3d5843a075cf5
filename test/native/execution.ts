/** Runs service-exec by itself, and inside a sandbox by the supervisor that the test holds by a string. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { access, copyFile, mkdir, rmdir, symlink } from "node:fs/promises";
import { join } from "node:path";

import { isErrno } from "../../core/errors.ts";
import { type Agent, collect, isRoot, openSandbox, type Sandbox, until, type Workshop } from "./sandbox.ts";

export interface RunOptions {
  readonly environment?: Readonly<Record<string, string>>;
  /** False: descriptor 3 is not open. */
  readonly errorPipe?: boolean;
}

export interface Ending {
  readonly stdout: string;
  readonly stderr: string;
  /** What came through descriptor 3. */
  readonly error: string;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Runs a program with descriptors as the supervisor gives them, to its end. */
export async function execute(
  program: string,
  parameters: readonly string[],
  options: RunOptions = {},
): Promise<Ending> {
  const stdio: ("ignore" | "pipe")[] = ["ignore", "pipe", "pipe", "pipe", "pipe"];
  const child = spawn(program, parameters, {
    stdio: options.errorPipe === false ? stdio.slice(0, 3) : stdio,
    env: options.environment ?? { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
  });
  const closed = once(child, "close");
  const [stdout, stderr, error] = await Promise.all([
    collect(child, 1),
    collect(child, 2),
    collect(child, 3),
    closed,
  ]);
  return { stdout, stderr, error, code: child.exitCode, signal: child.signalCode };
}

/** Arguments that say who, for a test that may not be root. */
export const SELF: readonly string[] = ["--uid", "0", "--gid", "0", "--cwd", "/", "--no-setid"];

/** Arguments that say who, as another user than root. */
export const userOf = (id: number): readonly string[] => [
  "--uid",
  String(id),
  "--gid",
  String(id),
  "--cwd",
  "/",
];

/** A sandbox with the host's /usr, service-exec at /service-exec, and the supervisor that tests hold. */
export async function openEquippedSandbox(
  workshop: Workshop,
  as: "root" | "ordinary",
  launcherArguments: readonly string[] = [],
): Promise<{ readonly sandbox: Sandbox; readonly agent: Agent }> {
  const prepare = async ({ tree }: Sandbox): Promise<void> => {
    for (const name of ["bin", "sbin", "lib", "lib64"]) await symlink(`usr/${name}`, join(tree, name));
    await copyFile(workshop.serviceExec, join(tree, "service-exec"));
  };
  const usr = ["--bind-ro", "/usr:/usr", ...launcherArguments];
  const sandbox = await openSandbox({ workshop, as, prepare, launcherArguments: usr });
  try {
    return { sandbox, agent: await sandbox.nextAgent() };
  } catch (error) {
    await sandbox[Symbol.asyncDispose]();
    throw error;
  }
}

export interface InsideEnding {
  /** Exit status, or the negative number of a signal. */
  readonly status: number;
  readonly error: string;
  readonly output: string;
  /** What came back through the socket that is descriptor 0. */
  readonly echo: string;
}

/** Runs a program (absolute path) inside a sandbox. */
export async function runInside(agent: Agent, command: readonly string[]): Promise<InsideEnding> {
  const [status = "", error = "", output = "", echo = ""] = (
    await agent.ask(`run ${command.join("\t")}`)
  ).split("\u001e");
  return { status: Number(status), error, output, echo };
}

/** A cgroup of the host for one test, removed with what it holds once nobody is left in it. */
export class TestCgroup implements AsyncDisposable {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async make(hierarchy: string, name: string): Promise<TestCgroup> {
    const folder = `enclave-toolkit-test-${process.pid}-${name}`;
    const directory = join("/sys/fs/cgroup", hierarchy, folder);
    await mkdir(directory);
    return new TestCgroup(directory);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const directory of [join(this.directory, "child"), this.directory]) {
      await until(`nobody is in ${directory}`, () => removeCgroup(directory));
    }
  }
}

async function removeCgroup(directory: string): Promise<boolean> {
  try {
    await rmdir(directory);
  } catch (error) {
    if (isErrno(error, "EBUSY")) return false;
    if (!isErrno(error, "ENOENT")) throw error;
  }
  return true;
}

/** True if this process may make cgroups below the hierarchy's mount point. */
export async function hasCgroups(hierarchy: string): Promise<boolean> {
  if (!isRoot) return false;
  try {
    await using cgroup = await TestCgroup.make(hierarchy, "probe");
    await access(join(cgroup.directory, "cgroup.procs"));
    return true;
  } catch {
    return false;
  }
}
