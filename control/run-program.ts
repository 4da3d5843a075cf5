/** Runs a command line to its end and turns a refusal into an exit status: the last part of every main of ours. */
import { type Command, CommanderError } from "commander";

import { KitError, toKitError } from "../core/errors.ts";
import type { Terminal } from "../core/terminal.ts";

const FORCED_STATUS = 130;

export interface ProgramRun {
  readonly program: Command;
  /** Aborted at the first SIGINT or SIGTERM; the second does not wait any longer. */
  readonly interrupted: AbortController;
  readonly openTerminal: () => Terminal;
  /** The arguments of the process, the first two being Node and the program. */
  readonly words: readonly string[];
  /** A better hint than the general one for a mistake on the command line. */
  readonly hintFor?: (error: CommanderError, words: readonly string[]) => string | undefined;
}

/** Sets the exit status of the process, and returns when all was said; the caller exits. */
export async function runProgram(run: ProgramRun): Promise<void> {
  const { interrupted } = run;
  const onSignal = (): void => {
    if (interrupted.signal.aborted) process.exit(FORCED_STATUS);
    interrupted.abort();
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, onSignal);
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(process.exitCode ?? 0); // the reader of a pipe has seen enough
  });
  await runCommand(run);
  // A pipe takes what it can: the rest waits in this process, and would be lost with it.
  await Promise.all([flush(process.stdout), flush(process.stderr)]);
}

async function runCommand({ program, openTerminal, words, hintFor }: ProgramRun): Promise<void> {
  try {
    await program.parseAsync(words);
  } catch (error) {
    const refusal =
      error instanceof CommanderError ? toUsageError(error, hintFor?.(error, words)) : toKitError(error);
    if (refusal === undefined) return;
    const end = words.indexOf("--");
    openTerminal().fail(refusal, words.slice(0, end < 0 ? undefined : end).includes("--json"));
    process.exitCode = refusal.exitStatus;
  }
}

async function flush(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.writableLength === 0) return;
  await new Promise((resolve) => stream.write("", resolve));
}

/** What commander refuses, as our own refusal; undefined where it only printed help or the version. */
function toUsageError(error: CommanderError, hint: string | undefined): KitError | undefined {
  if (error.exitCode === 0 || error.code === "commander.help") return undefined;
  const message = error.message.replace(/^error: /, "");
  return new KitError("E_USAGE", message, { cause: error, ...(hint === undefined ? {} : { hint }) });
}
