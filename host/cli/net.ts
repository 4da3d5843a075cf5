import { Command } from "commander";

import { readNetwork } from "../controller/network.ts";
import type { GetContext } from "./command-context.ts";
import { renderNetwork } from "./render-network.ts";

export function createNetCommand(getContext: GetContext): Command {
  return new Command("net")
    .description("show what an enclave listens on, whom it talks to, and what was denied")
    .argument("<name>", "name of the enclave")
    .option("--json", "print JSON")
    .addHelpText("after", "\nExamples:\n  pipeline net hello\n  pipeline net hello --json")
    .action(async (name: string, flags: { readonly json?: boolean }) => {
      const { toolkit, terminal, interrupted } = getContext();
      const network = await readNetwork(toolkit.stateDir, name, interrupted);
      if (flags.json === true) terminal.printJson({ name, ...network });
      else terminal.print(renderNetwork(network, terminal, Date.now()));
    });
}
