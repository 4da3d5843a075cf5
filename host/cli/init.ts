import { Command } from "commander";

import { writeStarterProject } from "../controller/starter-project.ts";
import type { GetContext } from "./command-context.ts";

export function createInitCommand(getContext: GetContext): Command {
  return new Command("init")
    .description("write a starter project")
    .argument("[dir]", "where; the current directory unless told", ".")
    .addHelpText("after", "\nExamples:\n  pipeline init signer && pipeline up signer/enclave.yaml")
    .action(async (directory: string) => {
      const { terminal } = getContext();
      for (const path of await writeStarterProject(directory)) terminal.print(`wrote ${path}`);
    });
}
