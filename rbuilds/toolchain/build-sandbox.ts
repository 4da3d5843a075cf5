/**
 * Runs one shell script with the tools of a toolchain and nothing else: new user, mount, pid, network, ipc and uts
 * namespaces, the toolchain's root below a tmpfs, inputs bound read-only at fixed paths, no network, no terminal, no
 * environment. What it prints on standard output is the result; standard error is for the operator.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { Readable, Transform, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";

import { withDeadline } from "../../core/deadline.ts";
import { KitError, toKitError } from "../../core/errors.ts";
import type { TreeOwners } from "../tree.ts";

/** Which ids of this machine a sandbox runs with; its root file system must belong to them. */
export interface SandboxIds {
  readonly owners: TreeOwners;
  /** Arguments of the launcher. */
  readonly mapArguments: readonly string[];
  /** Names the ids in the cache: trees of different owners are different trees. */
  readonly key: string;
}

export interface SandboxInput {
  /** File or folder of this machine. */
  readonly source: string;
  /** Absolute path inside. */
  readonly target: string;
}

export interface SandboxRun {
  /** native/launcher */
  readonly launcher: string;
  readonly ids: SandboxIds;
  /** Root of a toolchain. */
  readonly root: string;
  /** Where a temporary folder may be made. */
  readonly scratchDir: string;
  /** For /bin/sh; runs in /build, which is empty and may be written. */
  readonly script: string;
  readonly inputs: readonly SandboxInput[];
  /** Of everything that the script writes. */
  readonly tmpfsBytes: number;
  readonly timeoutMs: number;
  /** File that takes standard output. */
  readonly output: string;
  readonly maxOutputBytes: number;
  readonly signal?: AbortSignal | undefined;
  /** Each line of standard error. */
  readonly onLine?: ((line: string) => void) | undefined;
}

export interface SandboxResult {
  readonly status: number | null;
  /** The last lines of standard error. */
  readonly log: string;
}

const PREAMBLE = `set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/build LC_ALL=C TZ=UTC SOURCE_DATE_EPOCH=0
umask 022
mkdir -p /build /tmp
cd /build
`;
const LIFELINE_FD = 3;
const KEPT_LINES = 60;
const MAX_LINE_CHARACTERS = 2000;

/**
 * @returns how the script ended
 * @throws E_TOOLCHAIN_SANDBOX if there is no sandbox to be had, E_TOOLCHAIN_OUTPUT for more output than allowed,
 *   E_DEADLINE, E_CANCELLED
 */
export async function runInBuildSandbox(run: SandboxRun): Promise<SandboxResult> {
  const signal = withDeadline(run.signal, run.timeoutMs);
  signal.throwIfAborted();
  await using cleanup = new AsyncDisposableStack();
  const scratch = await mkdtemp(join(run.scratchDir, "sandbox-"));
  cleanup.defer(async () => await rm(scratch, { recursive: true, force: true }));
  const child = spawn(run.launcher, launcherArguments(run, scratch), {
    env: {},
    stdio: ["ignore", "pipe", "pipe", "pipe"],
  });
  const kill = (): void => hangUp(child);
  cleanup.defer(kill);
  signal.addEventListener("abort", kill, { once: true });
  cleanup.defer(() => signal.removeEventListener("abort", kill));
  try {
    const [status, log] = await Promise.all([ended(child), readLog(child, run), keepOutput(child, run)]);
    signal.throwIfAborted();
    return { status, log };
  } catch (error) {
    throw signal.aborted ? toKitError(signal.reason) : error;
  }
}

function launcherArguments(run: SandboxRun, scratch: string): string[] {
  const options = {
    "--root": run.root,
    "--scratch": scratch,
    "--vsock-dir": scratch,
    "--tmpfs-bytes": String(run.tmpfsBytes),
    "--lifeline-fd": String(LIFELINE_FD),
  };
  return [
    "run",
    ...run.ids.mapArguments,
    ...Object.entries(options).flat(),
    ...run.inputs.flatMap(({ source, target }) => ["--bind-ro", `${source}:${target}`]),
    "--",
    // The machine stays usable while a kernel compiles.
    "/usr/bin/nice",
    "-n",
    "10",
    "/bin/sh",
    "-c",
    PREAMBLE + run.script,
  ];
}

/** The launcher kills everything inside once its lifeline is gone. */
function hangUp(child: ChildProcess): void {
  const lifeline = child.stdio[LIFELINE_FD];
  if (lifeline instanceof Readable || lifeline instanceof Writable) lifeline.destroy();
}

async function ended(child: ChildProcess): Promise<number | null> {
  return await new Promise((resolve, reject) => {
    child.once("error", (cause) =>
      reject(new KitError("E_TOOLCHAIN_SANDBOX", `cannot run the launcher: ${cause.message}`, { cause })),
    );
    child.once("close", resolve);
  });
}

async function readLog(child: ChildProcess, run: SandboxRun): Promise<string> {
  const lines: string[] = [];
  let rest = "";
  for await (const chunk of child.stderr ?? []) {
    const parts = `${rest}${String(chunk)}`.split("\n");
    rest = (parts.pop() ?? "").slice(-MAX_LINE_CHARACTERS);
    for (const line of parts) {
      run.onLine?.(line);
      lines.push(line.slice(0, MAX_LINE_CHARACTERS));
    }
    lines.splice(0, lines.length - KEPT_LINES);
  }
  return [...lines, rest].join("\n").trim();
}

async function keepOutput(child: ChildProcess, run: SandboxRun): Promise<void> {
  let sizeBytes = 0;
  const bounded = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      sizeBytes += chunk.length;
      if (sizeBytes <= run.maxOutputBytes) return done(null, chunk);
      hangUp(child);
      done(new KitError("E_TOOLCHAIN_OUTPUT", `the build printed more than ${run.maxOutputBytes} bytes`));
    },
  });
  if (child.stdout !== null) await pipeline(child.stdout, bounded, createWriteStream(run.output));
}
