import { Command } from "commander";

import type { LogEntry, LogGap, ServiceUsage } from "../../wire/control.ts";
import type { ControlClient } from "../control-client.ts";
import { renderLogEntry } from "../render-logs.ts";
import type { GetInitctlContext, InitctlContext } from "./initctl-context.ts";
import { isActive, renderEnclave, renderService, renderServices } from "./render-status.ts";
import { pickServices } from "./service-names.ts";

/** As systemctl: asked for by name, something does not run. */
const INACTIVE_STATUS = 3;
const LAST_LINES = 10;

interface StatusFlags {
  readonly json?: boolean;
}

export function createStatusCommand(getContext: GetInitctlContext): Command {
  return new Command("status")
    .description("show the enclave, or services at length with their last lines")
    .argument("[services...]", "names of services")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      "\nExit status 3 if a named service does not run.\n\nExamples:\n  initctl status\n  initctl status web --json",
    )
    .action(async (names: readonly string[], flags: StatusFlags) => {
      const context = getContext();
      if (names.length > 0) return await showServices(context, names, flags);
      const status = await (await context.connect()).status(context.interrupted);
      const { terminal } = context;
      if (flags.json === true) terminal.printJson(status);
      else terminal.print(renderEnclave(status, terminal, Date.now()));
    });
}

async function showServices(
  { connect, terminal, interrupted }: InitctlContext,
  names: readonly string[],
  flags: StatusFlags,
): Promise<void> {
  const client = await connect();
  const { name: enclave, services } = await client.status(interrupted);
  const chosen = pickServices(services, names);
  if (!chosen.every(isActive)) process.exitCode = INACTIVE_STATUS;
  if (flags.json === true) return terminal.printJson(chosen);
  const usages = await readUsages(client, interrupted);
  const blocks: string[] = [];
  for (const service of chosen) {
    const lastLines = await readLastLines(client, service.name, { terminal, interrupted });
    const usage = usages.find((one) => one.name === service.name);
    blocks.push(renderService({ service, enclave, usage, lastLines }, terminal, Date.now()));
  }
  terminal.print(blocks.join("\n\n"));
}

/** Beside the status: where it cannot be had, the rest still tells much. */
async function readUsages(client: ControlClient, signal: AbortSignal): Promise<readonly ServiceUsage[]> {
  try {
    return (await client.stats(signal)).services;
  } catch {
    signal.throwIfAborted();
    return [];
  }
}

/** Empty where logs do not leave the enclave. */
async function readLastLines(
  client: ControlClient,
  service: string,
  { terminal, interrupted }: Pick<InitctlContext, "terminal" | "interrupted">,
): Promise<readonly string[]> {
  const entries: LogEntry[] = [];
  try {
    const query = { services: [service], tail: LAST_LINES, follow: false };
    for await (const batch of client.logs(query, interrupted)) entries.push(...batch.filter(isEntry));
  } catch {
    interrupted.throwIfAborted();
  }
  const names = new Map<string, number>();
  return entries.slice(-LAST_LINES).map((one) => renderLogEntry(one, { terminal, names, timestamps: true }));
}

function isEntry(item: LogEntry | LogGap): item is LogEntry {
  return "line" in item;
}

export function createListCommand(getContext: GetInitctlContext): Command {
  return new Command("list")
    .description("list the services")
    .option("--json", "print JSON")
    .addHelpText("after", "\nExamples:\n  initctl list\n  initctl list --json")
    .action(async (flags: StatusFlags) => {
      const { connect, terminal, interrupted } = getContext();
      const services = await (await connect()).services(interrupted);
      if (flags.json === true) terminal.printJson(services);
      else terminal.print(renderServices(services, terminal, Date.now()));
    });
}

export function createIsActiveCommand(getContext: GetInitctlContext): Command {
  return new Command("is-active")
    .description("tell by the exit status whether a service runs: 0 if it does, else 3")
    .argument("<service>", "name of the service")
    .addHelpText("after", "\nExamples:\n  initctl is-active web && echo yes")
    .action(async (name: string) => {
      const { connect, terminal, interrupted } = getContext();
      const [service] = pickServices(await (await connect()).services(interrupted), [name]);
      if (service === undefined) return;
      terminal.print(service.state);
      if (!isActive(service)) process.exitCode = INACTIVE_STATUS;
    });
}
