import { Command } from "commander";

import { KitError } from "../../core/errors.ts";
import { removeEnclaves, stopEnclave } from "../controller/stop.ts";
import type { GetContext } from "./command-context.ts";
import { toStatusJson } from "./describe-record.ts";
import { parseDuration } from "./up.ts";

export function createStopCommand(getContext: GetContext): Command {
  return new Command("stop")
    .description("stop the services in order, then the enclave; its record stays")
    .argument("<name>", "name of the enclave")
    .option("--timeout <duration>", "kill it after this time", parseDuration)
    .option("--json", "print the status afterwards as JSON")
    .addHelpText("after", "\nExamples:\n  pipeline stop hello\n  pipeline stop hello --timeout 5s")
    .action(async (name: string, flags: { readonly timeout?: number; readonly json?: boolean }) => {
      const { toolkit, terminal } = getContext();
      terminal.progress(`stopping ${name}`);
      const record = await stopEnclave(toolkit.stateDir, name, flags.timeout);
      if (flags.json === true) terminal.printJson(toStatusJson(record));
      else terminal.print(`${name} is ${record.state}${record.reason === null ? "" : ` (${record.reason})`}`);
    });
}

export function createDownCommand(getContext: GetContext): Command {
  return new Command("down")
    .description("stop enclaves and remove every trace of them")
    .argument("[names...]", "names of enclaves")
    .option("-a, --all", "every enclave")
    .addHelpText("after", "\nExamples:\n  pipeline down hello counter\n  pipeline down --all")
    .action(async (names: readonly string[], flags: { readonly all?: boolean }) => {
      const { toolkit, terminal } = getContext();
      if (flags.all === true ? names.length > 0 : names.length === 0) {
        throw new KitError("E_USAGE", "down takes names, or --all");
      }
      terminal.progress("stopping");
      const wanted = flags.all === true ? undefined : names;
      await removeEnclaves(toolkit.stateDir, wanted, (name) => terminal.print(`${name} is gone`));
    });
}
