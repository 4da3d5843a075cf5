/** One run of a program without a shell: bounded output, a deadline, and an end even where a descendant keeps pipes open. */
import { type ChildProcess, spawn } from "node:child_process";
import type { Readable } from "node:stream";

import { withDeadline } from "../../../core/deadline.ts";
import { isErrno, KitError } from "../../../core/errors.ts";

export interface ProgramRun {
  /** Absolute path. */
  readonly program: string;
  readonly words: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface ProgramResult {
  /** null when killed by a signal. */
  readonly status: number | null;
  readonly stdout: string;
  /** The first 64 KiB. */
  readonly stderr: string;
}

const MAX_STDOUT_BYTES = 1 << 20;
const MAX_STDERR_BYTES = 64 << 10;
/** After the program's end for bytes that are still in its pipes. */
const DRAIN_MS = 1_000;

/** @throws E_NITRO_MISSING, E_NITRO_OUTPUT if it prints over 1 MiB, E_DEADLINE, the reason of the signal */
export async function runProgram(run: ProgramRun): Promise<ProgramResult> {
  run.signal.throwIfAborted();
  const child = spawn(run.program, run.words, {
    env: { ...run.environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const stop = new AbortController();
  const deadline = AbortSignal.any([withDeadline(run.signal, run.timeoutMs), stop.signal]);
  const tooMuch = new KitError(
    "E_NITRO_OUTPUT",
    `${commandOf(run)} printed more than ${MAX_STDOUT_BYTES} bytes`,
  );
  const stdout = gather(child.stdout, MAX_STDOUT_BYTES, () => stop.abort(tooMuch));
  const stderr = gather(child.stderr, MAX_STDERR_BYTES, () => undefined);
  const kill = (): void => void child.kill("SIGKILL");
  deadline.addEventListener("abort", kill, { once: true });
  try {
    const status = await awaitEnd(child, run);
    if (deadline.aborted) throw endReason(run, deadline);
    return { status, stdout: stdout(), stderr: stderr() };
  } finally {
    deadline.removeEventListener("abort", kill);
  }
}

/** The program's name and its first word, for messages. */
export function commandOf({ program, words }: Pick<ProgramRun, "program" | "words">): string {
  return [program.slice(program.lastIndexOf("/") + 1), ...words.slice(0, 1)].join(" ");
}

function gather(stream: Readable, limitBytes: number, onOverflow: () => void): () => string {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  stream.on("error", () => undefined);
  stream.on("data", (chunk: Buffer) => {
    const room = limitBytes - sizeBytes;
    if (room > 0) chunks.push(chunk.subarray(0, room));
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) onOverflow();
  });
  return () => Buffer.concat(chunks).toString("utf8");
}

async function awaitEnd(child: ChildProcess, { program }: ProgramRun): Promise<number | null> {
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  let timer: NodeJS.Timeout | undefined;
  child.once("error", (error) => {
    const why = isErrno(error, "ENOENT") ? "is not there" : `cannot be run: ${error.message}`;
    reject(new KitError("E_NITRO_MISSING", `${program} ${why}`, { cause: error }));
  });
  child.once("exit", (status) => {
    timer = setTimeout(() => {
      for (const stream of [child.stdout, child.stderr]) stream?.destroy();
      resolve(status);
    }, DRAIN_MS);
  });
  child.once("close", (status) => resolve(status));
  return await promise.finally(() => clearTimeout(timer));
}

function endReason(run: ProgramRun, deadline: AbortSignal): unknown {
  if (run.signal.aborted) return run.signal.reason;
  if (deadline.reason instanceof KitError) return deadline.reason;
  const seconds = Math.ceil(run.timeoutMs / 1000);
  return new KitError("E_DEADLINE", `${commandOf(run)} did not end within ${seconds} s`, {
    cause: deadline.reason,
  });
}
