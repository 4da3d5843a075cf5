/**
 * One process of a service, from fork to the last byte of its output.
 *
 * It is started through service-exec (native/service-exec), which takes the service's identity and then becomes its
 * program. Descriptor 3 is a channel that the exec closes: end of input without a byte means that the program runs.
 * The process leads its own session and process group, so that signals reach whatever it forked.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable } from "node:stream";

import { isErrno } from "../core/errors.ts";
import type { ServiceConfig, ServiceUser } from "../wire/enclave-config.ts";
import type { LogStream } from "./log-store.ts";
import type { OutputPipes } from "./output-pipes.ts";
import { describeExit, describeNotExecuted, type ProcessEnd } from "./process-end.ts";

/** Receives one stream of output. */
export interface OutputSink {
  push(chunk: Uint8Array): void;
  end(): void;
}

export interface ProcessRequest {
  /** Path of service-exec. */
  readonly serviceExec: string;
  /** False where only one uid exists, so that no identity can be taken. */
  readonly setIdentity: boolean;
  readonly user: ServiceUser;
  readonly workingDir: string;
  /** The whole environment. */
  readonly environment: Readonly<Record<string, string>>;
  readonly command: readonly string[];
  /** Further options of service-exec (compartment.ts). */
  readonly options: readonly string[];
  /** Ends what the process left behind, before its output is waited for. Must not reject. */
  readonly clearUp?: (() => Promise<void>) | undefined;
  readonly openOutput: (stream: LogStream) => OutputSink;
  /** Opens the pipes for a start; absent: output comes through sockets. @throws errno */
  readonly openPipes?: (() => OutputPipes) | undefined;
}

export interface ServiceProcess {
  /** null if it could not even be forked. */
  readonly pid: number | null;
  /** True once the program runs, false if it never will. Settles before `ended`; never rejects. */
  readonly executed: Promise<boolean>;
  /** The process is reaped, its group is killed, its output is read. Never rejects. */
  readonly ended: Promise<ProcessEnd>;
  /** Signals the whole process group; without effect once it ended. */
  kill(signal: NodeJS.Signals | number): void;
}

/** The whole environment of a service: what is configured, and who it is unless that is configured too. */
export function environmentOf({ user, environment }: ServiceConfig): Record<string, string> {
  return { HOME: user.home, USER: user.name, ...environment };
}

/** Processes that left the group may hold the output open; they are not waited for any longer than this. */
const OUTPUT_GRACE_MS = 1_000;
const MAX_EXEC_LINE = 512;
const EXEC_CHANNEL_FD = 3;

export function startProcess(request: ProcessRequest): ServiceProcess {
  let pipes: OutputPipes | undefined;
  try {
    pipes = request.openPipes?.();
    const child = spawnExec(request, pipes?.writers ?? ["pipe", "pipe"]);
    return watchProcess(child, request, pipes?.readers ?? [child.stdout, child.stderr]);
  } catch (error) {
    pipes?.abandon();
    return processThatNeverWas(describeSpawnError(error));
  } finally {
    pipes?.closeWriters();
  }
}

type OutputStdio = readonly [number | "pipe", number | "pipe"];

function spawnExec(request: ProcessRequest, [stdout, stderr]: OutputStdio): ChildProcess {
  return spawn(request.serviceExec, execArguments(request), {
    env: { ...request.environment },
    cwd: "/",
    stdio: ["ignore", stdout, stderr, "pipe"],
    detached: true,
  });
}

function execArguments({ user, workingDir, setIdentity, options, command }: ProcessRequest): string[] {
  const groups = user.groups.length === 0 ? [] : ["--groups", user.groups.join(",")];
  const identity = ["--uid", String(user.uid), "--gid", String(user.gid), ...groups];
  const place = ["--cwd", workingDir, ...(setIdentity ? [] : ["--no-setid"])];
  return [...identity, ...place, ...options, "--", ...command];
}

function processThatNeverWas(end: ProcessEnd): ServiceProcess {
  return {
    pid: null,
    executed: Promise.resolve(false),
    ended: Promise.resolve(end),
    kill: () => undefined,
  };
}

function describeSpawnError(error: unknown): ProcessEnd {
  const text = isErrno(error)
    ? `spawn ${error.code ?? ""} ${error.message}`
    : `spawn UNKNOWN ${String(error)}`;
  return describeNotExecuted(text);
}

function watchProcess(
  child: ChildProcess,
  { openOutput, clearUp }: ProcessRequest,
  [stdout, stderr]: readonly [Readable | null, Readable | null],
): ServiceProcess {
  const outputs = [captureOutput(stdout, openOutput("stdout")), captureOutput(stderr, openOutput("stderr"))];
  const { pid } = child;
  const kill = createGroupKill(child);
  // exit comes with the reaping, error instead of it where the fork failed.
  const reaped = new Promise<ProcessEnd>((resolve) => {
    child.once("exit", (code, signal) => resolve(describeExit(code, signal)));
    child.once("error", (error) => resolve(describeSpawnError(error)));
  });
  const execLine = readExecLine(child.stdio[EXEC_CHANNEL_FD], reaped);
  const executed = pid === undefined ? Promise.resolve(false) : execLine.then((line) => line === "");
  const ended = reaped.then(async (end) => {
    kill("SIGKILL");
    await clearUp?.();
    const line = await execLine;
    await withinGrace(Promise.all(outputs.map((output) => output.done)), OUTPUT_GRACE_MS);
    for (const output of outputs) output.close();
    return line === "" ? end : describeNotExecuted(line);
  });
  return { pid: pid ?? null, executed, ended, kill };
}

/** The group outlives its leader; it is signalled for the last time right after the leader was reaped. */
function createGroupKill(child: ChildProcess): ServiceProcess["kill"] {
  const { pid } = child;
  let isOver = pid === undefined;
  return (signal) => {
    const isReaped = child.exitCode !== null || child.signalCode !== null;
    if (isOver || pid === undefined || (isReaped && signal !== "SIGKILL")) return;
    isOver = isReaped;
    try {
      process.kill(-pid, signal);
    } catch (error) {
      if (!isErrno(error, "ESRCH") && !isErrno(error, "EPERM")) throw error;
    }
  };
}

/** What service-exec says, "" for success; not waited for much longer than the process itself. */
async function readExecLine(channel: unknown, reaped: Promise<unknown>): Promise<string> {
  if (!isReadable(channel)) return "";
  let text = "";
  channel.setEncoding("utf8");
  channel.on("data", (piece: string) => {
    text = (text + piece).slice(0, MAX_EXEC_LINE);
  });
  channel.on("error", () => channel.destroy());
  const closed = once(channel, "close");
  await Promise.race([closed, reaped.then(() => withinGrace(closed, OUTPUT_GRACE_MS))]);
  channel.destroy();
  return text.trim();
}

function isReadable(stream: unknown): stream is Readable {
  return typeof stream === "object" && stream !== null && "setEncoding" in stream;
}

interface CapturedOutput {
  readonly done: Promise<void>;
  close(): void;
}

/** One chunk a turn of the event loop, so that a service that floods does not starve the others. */
function captureOutput(stream: Readable | null, sink: OutputSink): CapturedOutput {
  if (stream === null) return { done: Promise.resolve(), close: () => undefined };
  const { promise: done, resolve } = Promise.withResolvers<void>();
  stream.on("data", (chunk: Buffer) => {
    sink.push(chunk);
    stream.pause();
    setImmediate(() => stream.resume());
  });
  stream.on("error", () => stream.destroy());
  stream.once("close", () => {
    sink.end();
    resolve();
  });
  return { done, close: () => stream.destroy() };
}

async function withinGrace(work: Promise<unknown>, graceMs: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, graceMs);
  await Promise.race([work, promise]);
  clearTimeout(timer);
}
