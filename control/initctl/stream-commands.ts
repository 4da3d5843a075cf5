import { Command } from "commander";

import { toPrintable } from "../../core/printable.ts";
import type { EventEntry, LogEntry, LogGap } from "../../wire/control.ts";
import { renderLogEntry } from "../render-logs.ts";
import type { GetInitctlContext, InitctlContext } from "./initctl-context.ts";
import { parseCount, parseDuration } from "./option-parsers.ts";
import { isOwnProcess } from "../../wire/own-processes.ts";
import { pickServices } from "./service-names.ts";

interface LogsFlags {
  readonly follow?: boolean;
  readonly lines?: number;
  readonly since?: number;
  readonly timestamps?: boolean;
  readonly json?: boolean;
}

export function createLogsCommand(getContext: GetInitctlContext): Command {
  return new Command("logs")
    .description("show what services said")
    .argument("[services...]", "names of services; all unless told")
    .option("-f, --follow", "go on with what comes, until the enclave ends")
    .option("-n, --lines <count>", "only the last lines", parseCount)
    .option("--since <duration>", "only what is younger, for example 10m", parseDuration)
    .option("-t, --timestamps", "show the time of each line")
    .option("--json", "one JSON object a line")
    .addHelpText("after", "\nExamples:\n  initctl logs web -f\n  initctl logs -n 100 --since 10m")
    .action(async (names: readonly string[], flags: LogsFlags) => await runLogs(getContext(), names, flags));
}

async function runLogs(context: InitctlContext, names: readonly string[], flags: LogsFlags): Promise<void> {
  const { terminal, interrupted } = context;
  const client = await context.connect();
  const services = names.filter((name) => !isOwnProcess(name));
  if (services.length > 0) pickServices(await client.services(interrupted), services);
  const query = {
    services: names,
    follow: flags.follow === true,
    ...(flags.since === undefined ? {} : { since: Date.now() - flags.since }),
    ...(flags.lines === undefined ? {} : { tail: flags.lines }),
  };
  const show = createPrinter(context, flags);
  await untilInterrupted(interrupted, flags.follow === true, async () => {
    for await (const batch of client.logs(query, interrupted)) {
      if (batch.length > 0) terminal.print(batch.map(show).join("\n"));
    }
  });
}

function createPrinter({ terminal }: InitctlContext, flags: LogsFlags): (item: LogEntry | LogGap) => string {
  if (flags.json === true) return (item) => JSON.stringify(item);
  const names = new Map<string, number>();
  const timestamps = flags.timestamps === true;
  return (item) =>
    "dropped" in item
      ? `-- ${item.dropped} lines were overwritten before they were read --`
      : renderLogEntry(item, { terminal, names, timestamps });
}

interface EventsFlags {
  readonly follow?: boolean;
  readonly json?: boolean;
}

export function createEventsCommand(getContext: GetInitctlContext): Command {
  return new Command("events")
    .description("show what happened to the services and the enclave")
    .option("-f, --follow", "go on with what comes, until the enclave ends")
    .option("--json", "one JSON object a line")
    .addHelpText("after", "\nExamples:\n  initctl events\n  initctl events -f --json")
    .action(async (flags: EventsFlags) => await showEvents(getContext(), flags));
}

/** Also what `pipeline events` does. */
export async function showEvents(
  { connect, terminal, interrupted }: Pick<InitctlContext, "connect" | "terminal" | "interrupted">,
  flags: EventsFlags,
): Promise<void> {
  const client = await connect();
  const show = flags.json === true ? (entry: EventEntry) => JSON.stringify(entry) : renderEvent;
  await untilInterrupted(interrupted, flags.follow === true, async () => {
    for await (const batch of client.events(flags.follow === true, interrupted)) {
      if (batch.length > 0) terminal.print(batch.map(show).join("\n"));
    }
  });
}

function renderEvent({ time, service, message }: EventEntry): string {
  const date = new Date(time);
  const shown = Number.isNaN(date.getTime()) ? "?" : date.toISOString();
  return toPrintable(`${shown}  ${service ?? "enclave"}  ${message}`);
}

/** Whoever follows ends it with Ctrl-C: that is no failure. */
export async function untilInterrupted(
  interrupted: AbortSignal,
  isFollowing: boolean,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!isFollowing || !interrupted.aborted) throw error;
  }
}
