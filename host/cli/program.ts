/** The command line: global options, all commands, and how misuse is told. */
import { Command } from "commander";

import { createCompletionCommand } from "../../control/completion-command.ts";
import type { GetContext } from "./command-context.ts";
import { createAttestCommand } from "./attest.ts";
import { createBuildCommand } from "./build.ts";
import { createCopyCommand } from "./copy.ts";
import { createDoctorCommand } from "./doctor.ts";
import { createAttachCommand, createEventsCommand } from "./follow.ts";
import { createExecCommand } from "./exec.ts";
import { createImagesCommand } from "./images.ts";
import { createInitCommand } from "./init.ts";
import { createInspectCommand } from "./inspect.ts";
import { createLoadCommand } from "./load.ts";
import { createLockCommand } from "./lock.ts";
import { createConsoleCommand, createLogsCommand } from "./logs.ts";
import { createNetCommand } from "./net.ts";
import { createPolicyCommand } from "./policy.ts";
import { createPortsCommand } from "./ports.ts";
import { createPsCommand, createStatusCommand } from "./ps.ts";
import { createRmiCommand } from "./rmi.ts";
import { createSaveCommand } from "./save.ts";
import { createStatsCommand } from "./stats.ts";
import { createDownCommand, createStopCommand } from "./stop.ts";
import { createTagCommand } from "./tag.ts";
import { createUpCommand } from "./up.ts";
import { createValidateCommand } from "./validate.ts";
import { createVerifyImageCommand } from "./verify-image.ts";
import { createVerifyCommand } from "./verify.ts";

export interface GlobalFlags {
  readonly stateDir?: string;
  readonly cacheDir?: string;
  readonly verbose?: boolean;
  readonly color: boolean;
}

export interface ProgramOptions {
  readonly version: string;
  readonly getContext: GetContext;
}

export function createProgram({ version, getContext }: ProgramOptions): Command {
  const program = new Command("pipeline")
    .description("Docker for enclaves: build, run, reach and prove them from one YAML file")
    .version(version, "-V, --version", "print the version")
    .option("--state-dir <dir>", "where enclaves are kept")
    .option("--cache-dir <dir>", "where packages, files and images are kept")
    .option("--verbose", "say more: every step, and the causes of errors")
    .option("--no-color", "no colours")
    .addHelpText(
      "after",
      "\nExamples:\n  pipeline up examples/hello/enclave.yaml -d\n  pipeline status hello\n  pipeline down --all",
    );
  const commands = [
    createInitCommand(getContext),
    createValidateCommand(getContext),
    createLockCommand(getContext),
    createBuildCommand(getContext),
    createInspectCommand(getContext),
    createVerifyImageCommand(getContext),
    createUpCommand(getContext),
    createPsCommand(getContext),
    createStatusCommand(getContext),
    createLogsCommand(getContext),
    createConsoleCommand(getContext),
    createEventsCommand(getContext),
    createStatsCommand(getContext),
    createNetCommand(getContext),
    createPortsCommand(getContext),
    createPolicyCommand(getContext),
    createAttestCommand(getContext),
    createVerifyCommand(getContext),
    createExecCommand(getContext),
    createAttachCommand(getContext),
    createCopyCommand(getContext),
    createStopCommand(getContext),
    createDownCommand(getContext),
    createImagesCommand(getContext),
    createTagCommand(getContext),
    createRmiCommand(getContext),
    createSaveCommand(getContext),
    createLoadCommand(getContext),
    createDoctorCommand(getContext),
    createCompletionCommand(getContext, program),
  ];
  for (const command of commands) program.addCommand(command);
  for (const command of [program, ...program.commands])
    command.exitOverride().configureOutput({ writeErr: () => undefined });
  program.showSuggestionAfterError(true);
  return program;
}
