import type { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";

import { Command } from "commander";

import { packArchive } from "../../archive/pack-archive.ts";
import { unpackArchive } from "../../archive/unpack-archive.ts";
import { ControlClient } from "../../control/control-client.ts";
import { KitError } from "../../core/errors.ts";
import { renderBytes } from "../../core/text-table.ts";
import type { ArchiveSummary } from "../../wire/archive-report.ts";
import { dialEnclave } from "../controller/enclave-dialer.ts";
import type { CommandContext, GetContext } from "./command-context.ts";
import { type CopyPlan, parseCopy } from "./copy-operands.ts";

const PROGRESS_MS = 200;

interface CopyFlags {
  readonly archive?: boolean;
  readonly json?: boolean;
}

export function createCopyCommand(getContext: GetContext): Command {
  return new Command("cp")
    .description("copy files and directories into an enclave or out of it")
    .argument("<source>", "a local path, NAME:/path, or - for a tar stream on standard input")
    .argument("<destination>", "a local path, NAME:/path, or - for a tar stream on standard output")
    .option("-a, --archive", "keep the owners, by number, of what comes out; needs root")
    .option("--json", "print what was copied as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  pipeline cp ./data counter:/var/lib/\n  pipeline cp counter:/var/log ./logs\n" +
        "  pipeline cp counter:/etc - | tar -t",
    )
    .action(async (source: string, destination: string, flags: CopyFlags) => {
      await runCopy(getContext(), parseCopy(source, destination), flags);
    });
}

async function runCopy(context: CommandContext, plan: CopyPlan, flags: CopyFlags): Promise<void> {
  const { toolkit, terminal } = context;
  const client = new ControlClient(await dialEnclave(toolkit.stateDir, plan.enclave));
  const progress = new CopyProgress(context);
  const copy = { context, client, plan, progress };
  const summary = plan.direction === "in" ? await copyIn(copy) : await copyOut(copy, flags);
  if (summary === undefined) return; // the archive itself is on stdout
  if (flags.json === true) terminal.printJson(summary);
  else terminal.note(progress.describe(summary));
}

interface Copy {
  readonly context: CommandContext;
  readonly client: ControlClient;
  readonly plan: CopyPlan;
  readonly progress: CopyProgress;
}

async function copyIn({ context, client, plan, progress }: Copy): Promise<ArchiveSummary> {
  const signal = context.interrupted;
  const send = async (output: Writable): Promise<void> => {
    if (plan.local === "-") await pipeline(process.stdin, output, { end: false, signal });
    else await packArchive(plan.local, { output, signal, onProgress: progress.report });
  };
  return await client.putArchive(plan.remote, send, signal);
}

async function copyOut(
  { context, client, plan, progress }: Copy,
  flags: CopyFlags,
): Promise<ArchiveSummary | undefined> {
  const signal = context.interrupted;
  if (plan.local === "-" && process.stdout.isTTY) {
    throw new KitError("E_USAGE", "an archive is not for a terminal", {
      hint: "Send it into a file or a pipe: pipeline cp NAME:/path - | tar -t",
    });
  }
  const owners = flags.archive === true && process.getuid?.() === 0 ? "keep" : "caller";
  await using input: Readable = await client.getArchive(plan.remote, signal);
  if (plan.local === "-") return void (await pipeline(input, process.stdout, { end: false, signal }));
  const onProgress = progress.report;
  return await unpackArchive(plan.local, { input, signal, owners, specialModes: "drop", onProgress });
}

/** One line on a terminal: bytes so far and how fast. */
class CopyProgress {
  readonly #context: CommandContext;
  readonly #startedAt = performance.now();
  #shownAt = 0;

  constructor(context: CommandContext) {
    this.#context = context;
  }

  readonly report = ({ entries, bytes }: ArchiveSummary): void => {
    const now = performance.now();
    if (now - this.#shownAt < PROGRESS_MS) return;
    this.#shownAt = now;
    this.#context.terminal.progress(`${entries} entries, ${renderBytes(bytes)}, ${this.#rate(bytes)}`);
  };

  describe({ entries, bytes }: ArchiveSummary): string {
    return `copied ${entries} ${entries === 1 ? "entry" : "entries"}, ${renderBytes(bytes)}, ${this.#rate(bytes)}`;
  }

  #rate(bytes: number): string {
    return `${renderBytes((bytes * 1000) / Math.max(1, performance.now() - this.#startedAt))}/s`;
  }
}
