import { Command } from "commander";

import { loadEnclaveSpec } from "../config/load-spec.ts";
import type { GetContext } from "./command-context.ts";

export function createValidateCommand(getContext: GetContext): Command {
  return new Command("validate")
    .description("check an enclave.yaml without building anything")
    .argument("<file>", "enclave.yaml")
    .option("--json", "print what was understood as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  pipeline validate enclave.yaml\n  pipeline validate enclave.yaml --json",
    )
    .action(async (file: string, flags: { readonly json?: boolean }) => {
      const { terminal } = getContext();
      const spec = await loadEnclaveSpec(file);
      if (flags.json === true) terminal.printJson(spec);
      else
        terminal.print(
          `${file} is valid: ${spec.name}, ${spec.mode}, ${spec.services.length || 1} service(s)`,
        );
    });
}
