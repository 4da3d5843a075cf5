import { Command } from "commander";

import { followUsage, showUsageOnce } from "../live-usage.ts";
import type { GetInitctlContext } from "./initctl-context.ts";
import { parseInterval } from "./option-parsers.ts";
import { untilInterrupted } from "./stream-commands.ts";

const DEFAULT_INTERVAL_MS = 1000;

interface StatsFlags {
  readonly stream: boolean;
  readonly interval: number;
  readonly json?: boolean;
}

export function createStatsCommand(getContext: GetInitctlContext): Command {
  return new Command("stats")
    .description("show what the services use, again and again on a terminal")
    .option("--no-stream", "once")
    .option("--interval <duration>", "from one sample to the next", parseInterval, DEFAULT_INTERVAL_MS)
    .option("--json", "one JSON object a sample")
    .addHelpText("after", "\nExamples:\n  initctl stats\n  initctl stats --no-stream --json")
    .action(async (flags: StatsFlags) => {
      const { connect, terminal, interrupted } = getContext();
      const client = await connect();
      const enclave = (await client.status(interrupted)).name;
      const options = {
        terminal,
        intervalMs: flags.interval,
        json: flags.json === true,
        signal: interrupted,
      };
      const isOnce = !flags.stream || (!terminal.isInteractive && flags.json !== true);
      if (isOnce) return await showUsageOnce([{ enclave, client }], options);
      await untilInterrupted(
        interrupted,
        true,
        async () => await followUsage([{ enclave, client }], options),
      );
    });
}
