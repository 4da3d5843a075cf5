/**
 * The process of a session. Its streams are connections of the gateway, handed over as they are: the child has them as
 * descriptors 0 to 2, and the supervisor forgets them as soon as it was started.
 */
import { type ChildProcess, spawn, type StdioOptions } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";
import type { Socket } from "node:net";
import { Readable, Writable } from "node:stream";

import { isErrno } from "../../core/errors.ts";
import type { TerminalSize } from "../../wire/session-frames.ts";
import { describeExit, describeNotExecuted } from "../process-end.ts";

export interface SessionCommand {
  /** Program with arguments: service-exec and everything behind it. */
  readonly words: readonly [string, ...string[]];
  readonly environment: Readonly<Record<string, string>>;
  readonly tty: boolean;
  /** Descriptor 2 is not a stream but the report of the program. */
  readonly reports: boolean;
}

export interface SessionEnd {
  /** As a shell has it. */
  readonly exitCode: number;
  readonly reason: string;
  /** What the program said at its end. */
  readonly report: string;
}

export interface SessionProcess {
  readonly pid: number | null;
  /** Never rejects. */
  readonly ended: Promise<SessionEnd>;
  kill(signal: NodeJS.Signals): void;
  resize(size: TerminalSize): void;
}

const EXEC_CHANNEL_FD = 3;
const SIZE_FD = 4;
const REPORT_FD = 2;
const MAX_TEXT = 4096;
const NOT_FOUND = 127;
const NOT_EXECUTED = 126;

/** @param streams by descriptor; they belong to the process from now on. */
export function startSessionProcess(
  command: SessionCommand,
  streams: ReadonlyMap<number, Socket>,
): SessionProcess {
  try {
    return watch(spawnSession(command, streams), command);
  } catch (error) {
    const line = isErrno(error) ? `spawn ${error.code ?? ""} ${error.message}` : `spawn ${String(error)}`;
    const end = { exitCode: NOT_EXECUTED, reason: describeNotExecuted(line).reason, report: "" };
    return { pid: null, ended: Promise.resolve(end), kill: () => undefined, resize: () => undefined };
  } finally {
    for (const socket of streams.values()) socket.destroy();
  }
}

function spawnSession(
  { words, environment, tty, reports }: SessionCommand,
  streams: ReadonlyMap<number, Socket>,
): ChildProcess {
  const [program, ...rest] = words;
  const at = (descriptor: number): Socket | "ignore" => streams.get(descriptor) ?? "ignore";
  const stdio: StdioOptions = [
    at(0),
    at(1),
    reports ? "pipe" : at(REPORT_FD),
    "pipe",
    tty ? "pipe" : "ignore",
  ];
  return spawn(program, rest, { env: { ...environment }, cwd: "/", stdio, detached: true });
}

function watch(child: ChildProcess, { reports }: SessionCommand): SessionProcess {
  const channel = readText(child.stdio[EXEC_CHANNEL_FD]);
  const report = reports ? readText(child.stdio[REPORT_FD]) : Promise.resolve("");
  const sizes = child.stdio[SIZE_FD];
  if (sizes instanceof Writable) sizes.on("error", () => sizes.destroy());
  const exited = new Promise<[number | null, NodeJS.Signals | null] | Error>((resolve) => {
    child.once("exit", (code, signal) => resolve([code, signal]));
    child.once("error", resolve);
  });
  const kill = createKill(child);
  const ended = exited.then(async (exit): Promise<SessionEnd> => {
    kill("SIGKILL");
    const line = await channel;
    const text = await report;
    if (exit instanceof Error || line !== "") return notExecuted(exit instanceof Error ? exit.message : line);
    const [code, signal] = exit;
    return { exitCode: exitCodeOf(code, signal), reason: describeExit(code, signal).reason, report: text };
  });
  return { pid: child.pid ?? null, ended, kill, resize: (size) => writeSize(sizes, size) };
}

function notExecuted(line: string): SessionEnd {
  const exitCode = line.startsWith("exec ENOENT ") ? NOT_FOUND : NOT_EXECUTED;
  return { exitCode, reason: describeNotExecuted(line).reason, report: "" };
}

function exitCodeOf(code: number | null, signal: NodeJS.Signals | null): number {
  return code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
}

/** The group, and for the last time right after its leader was reaped. */
function createKill({ pid }: ChildProcess): (signal: NodeJS.Signals) => void {
  return (signal) => {
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch (error) {
      if (!isErrno(error, "ESRCH") && !isErrno(error, "EPERM")) throw error;
    }
  };
}

/** u16 rows, u16 columns, big-endian (native/service-exec/sizes.c). A size that cannot be sent now is out of date. */
function writeSize(target: unknown, { rows, columns }: TerminalSize): void {
  if (!(target instanceof Writable) || target.destroyed || target.writableNeedDrain) return;
  const record = Buffer.alloc(4);
  record.writeUInt16BE(rows);
  record.writeUInt16BE(columns, 2);
  target.write(record);
}

/** A few lines at most; ends with the process that holds the other end. */
async function readText(source: unknown): Promise<string> {
  if (!(source instanceof Readable)) return "";
  let text = "";
  source.setEncoding("utf8");
  source.on("data", (piece: string) => (text = (text + piece).slice(-MAX_TEXT)));
  source.on("error", () => source.destroy());
  await once(source, "close");
  return text.trim();
}
