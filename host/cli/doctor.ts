import { resolve } from "node:path";
import { Command } from "commander";

import { readWanted } from "../controller/doctor/wanted-enclave.ts";
import { examineMachine } from "../controller/doctor.ts";
import type { GetContext } from "./command-context.ts";

const COLOURS = { ok: "green", warn: "yellow", fail: "red" } as const;
const ENVIRONMENT_STATUS = 7;

export function createDoctorCommand(getContext: GetContext): Command {
  return new Command("doctor")
    .description("check what this machine has and lacks, with the command that mends it")
    .argument("[files...]", "enclave.yaml and image file that are to run on Nitro hardware")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  pipeline doctor\n  pipeline doctor --json\n  pipeline doctor enclave.yaml signer.eif",
    )
    .action(async (files: readonly string[], flags: { readonly json?: boolean }) => {
      const { toolkit, terminal } = getContext();
      const findings = await examineMachine(toolkit, await readWanted(files.map((file) => resolve(file))));
      if (flags.json === true) terminal.printJson(findings);
      else {
        for (const { check, result, detail, fix } of findings) {
          terminal.print(`${terminal.colour(COLOURS[result], result.padEnd(4))}  ${check}: ${detail}`);
          if (fix !== "") terminal.print(`      mend it: ${fix}`);
        }
      }
      if (findings.some((finding) => finding.result === "fail")) process.exitCode = ENVIRONMENT_STATUS;
    });
}
