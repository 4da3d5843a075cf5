import { Command, InvalidArgumentError } from "commander";

import { inspectEnclave, isLive } from "../controller/inspect.ts";
import { followLogs, readLogs } from "../controller/log-reader.ts";
import type { HostLogEntry } from "../runner/log-writer.ts";
import { enclavePaths } from "../state/enclave-paths.ts";
import type { CommandContext, GetContext } from "./command-context.ts";
import { renderLogEntry } from "../../control/render-logs.ts";
import { parseDuration } from "./up.ts";

/** How often a follower looks whether the enclave still lives. */
const LIVENESS_MS = 500;

interface LogsFlags {
  readonly follow?: boolean;
  readonly service?: readonly string[];
  readonly tail?: number;
  readonly since?: number;
  readonly timestamps?: boolean;
  readonly json?: boolean;
}

export function createLogsCommand(getContext: GetContext): Command {
  return new Command("logs")
    .description("show what the services and the console said")
    .argument("<name>", "name of the enclave")
    .option("-f, --follow", "go on with what comes, until the enclave ends")
    .option(
      "-s, --service <service>",
      "only this service; `console` for init's own output (can be repeated)",
      collect,
    )
    .option("-n, --tail <lines>", "only the last lines", parseCount)
    .option("--since <duration>", "only what is younger, for example 10m", parseDuration)
    .option("-t, --timestamps", "show the time of each line")
    .option("--json", "one JSON object a line")
    .addHelpText(
      "after",
      "\nExamples:\n  pipeline logs hello -f\n  pipeline logs counter -s redis --tail 20 --since 1h",
    )
    .action(async (name: string, flags: LogsFlags) => await showLogs(getContext(), name, flags));
}

/** The output of init and of what runs before the services: the machine's console. */
export function createConsoleCommand(getContext: GetContext): Command {
  return new Command("console")
    .description("show the console of the machine: what init said")
    .argument("<name>", "name of the enclave")
    .option("-f, --follow", "go on with what comes, until the enclave ends")
    .option("-n, --tail <lines>", "only the last lines", parseCount)
    .option("-t, --timestamps", "show the time of each line")
    .option("--json", "one JSON object a line")
    .addHelpText("after", "\nExamples:\n  pipeline console hello\n  pipeline console hello -f")
    .action(
      async (name: string, flags: LogsFlags) =>
        await showLogs(getContext(), name, { ...flags, service: ["console"] }),
    );
}

function collect(value: string, earlier: readonly string[] = []): string[] {
  return [...earlier, value];
}

function parseCount(text: string): number {
  if (!/^[0-9]{1,9}$/.test(text)) throw new InvalidArgumentError("write a number");
  return Number(text);
}

async function showLogs(context: CommandContext, name: string, flags: LogsFlags): Promise<void> {
  const { toolkit } = context;
  await inspectEnclave(toolkit.stateDir, name);
  const directory = enclavePaths(toolkit.stateDir, name).logs;
  const show = createPrinter(context, flags);
  const filter = {
    services: flags.service,
    sinceMs: flags.since === undefined ? undefined : Date.now() - flags.since,
  };
  const options = { ...filter, tail: flags.tail };
  if (flags.follow !== true) {
    for (const entry of await readLogs(directory, options)) show(entry);
    return;
  }
  const signal = await untilEnded(context, name);
  for await (const entry of followLogs(directory, { ...options, signal })) show(entry);
}

function createPrinter({ terminal }: CommandContext, flags: LogsFlags): (entry: HostLogEntry) => void {
  const names = new Map<string, number>();
  if (flags.json === true) return (entry) => terminal.print(JSON.stringify(entry));
  return (entry) =>
    terminal.print(renderLogEntry(entry, { terminal, names, timestamps: flags.timestamps === true }));
}

/** Aborts when the enclave has ended or the operator has seen enough. */
async function untilEnded({ toolkit, interrupted }: CommandContext, name: string): Promise<AbortSignal> {
  const ended = new AbortController();
  const timer = setInterval(() => {
    inspectEnclave(toolkit.stateDir, name).then(
      (record) => (isLive(record) ? undefined : stop()),
      () => stop(),
    );
  }, LIVENESS_MS);
  const stop = (): void => {
    clearInterval(timer);
    ended.abort();
  };
  interrupted.addEventListener("abort", stop, { once: true });
  if (!isLive(await inspectEnclave(toolkit.stateDir, name))) stop();
  return ended.signal;
}
