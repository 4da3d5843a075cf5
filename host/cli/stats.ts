import { Command } from "commander";

import { ControlClient } from "../../control/control-client.ts";
import { parseInterval } from "../../control/initctl/option-parsers.ts";
import { untilInterrupted } from "../../control/initctl/stream-commands.ts";
import { followUsage, showUsageOnce, type UsageSource } from "../../control/live-usage.ts";
import { dialEnclave } from "../controller/enclave-dialer.ts";
import { isLive, listEnclaves } from "../controller/inspect.ts";
import type { CommandContext, GetContext } from "./command-context.ts";

const DEFAULT_INTERVAL_MS = 1000;

interface StatsFlags {
  readonly stream: boolean;
  readonly interval: number;
  readonly json?: boolean;
}

export function createStatsCommand(getContext: GetContext): Command {
  return new Command("stats")
    .description("show what enclaves and their services use, again and again on a terminal")
    .argument("[names...]", "names of enclaves; all that run unless told")
    .option("--no-stream", "once")
    .option("--interval <duration>", "from one sample to the next", parseInterval, DEFAULT_INTERVAL_MS)
    .option("--json", "one JSON object a sample")
    .addHelpText("after", "\nExamples:\n  pipeline stats\n  pipeline stats counter --no-stream --json")
    .action(
      async (names: readonly string[], flags: StatsFlags) => await runStats(getContext(), names, flags),
    );
}

async function runStats(context: CommandContext, names: readonly string[], flags: StatsFlags): Promise<void> {
  const { toolkit, terminal, interrupted } = context;
  const chosen = names.length > 0 ? [...new Set(names)] : await findOpenEnclaves(context);
  const sources: UsageSource[] = [];
  for (const enclave of chosen)
    sources.push({ enclave, client: new ControlClient(await dialEnclave(toolkit.stateDir, enclave)) });
  if (sources.length === 0) return terminal.note("no enclave runs");
  const json = flags.json === true;
  const options = { terminal, intervalMs: flags.interval, json, signal: interrupted };
  if (!flags.stream || (!terminal.isInteractive && !json)) return await showUsageOnce(sources, options);
  await untilInterrupted(interrupted, true, async () => await followUsage(sources, options));
}

/** Those that run and can be asked. */
async function findOpenEnclaves({ toolkit, terminal }: CommandContext): Promise<string[]> {
  const live = (await listEnclaves(toolkit.stateDir)).records.filter(isLive);
  for (const { name, mode } of live)
    if (mode === "production") terminal.note(`${name} runs in production: it tells no figures`);
  return live.filter(({ mode }) => mode === "development").map(({ name }) => name);
}
