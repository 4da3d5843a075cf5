/** The command line of initctl, on the host and inside an enclave: systemctl's words for the services of an enclave. */
import { Command } from "commander";

import { createCompletionCommand } from "./completion-command.ts";
import { createActCommand } from "./initctl/act-commands.ts";
import type { GetInitctlContext } from "./initctl/initctl-context.ts";
import { createPoweroffCommand, createReloadCommand } from "./initctl/machine-commands.ts";
import { createStatsCommand } from "./initctl/stats-command.ts";
import { createIsActiveCommand, createListCommand, createStatusCommand } from "./initctl/status-command.ts";
import { createEventsCommand, createLogsCommand } from "./initctl/stream-commands.ts";

export interface InitctlFlags {
  /** On the host only. */
  readonly enclave?: string;
  readonly stateDir?: string;
  readonly cacheDir?: string;
  readonly verbose?: boolean;
  readonly color: boolean;
}

export interface InitctlOptions {
  readonly version: string;
  readonly getContext: GetInitctlContext;
  /** On the host, where there are several enclaves and their files. */
  readonly isHost: boolean;
}

export function createInitctlProgram({ version, getContext, isHost }: InitctlOptions): Command {
  const program = new Command("initctl")
    .description("look at and change the services of an enclave")
    .version(version, "-V, --version", "print the version")
    .option("--verbose", "say more: every step, and the causes of errors")
    .option("--no-color", "no colours");
  if (isHost) {
    program
      .option("-e, --enclave <name>", "the enclave")
      .option("--state-dir <dir>", "where enclaves are kept")
      .option("--cache-dir <dir>", "where packages, files and images are kept");
  }
  const which = isHost ? " --enclave counter" : "";
  program.addHelpText(
    "after",
    `\nExamples:\n  initctl status${which}\n  initctl restart redis${which}\n  initctl logs web -f${which}`,
  );
  program.addCommand(createStatusCommand(getContext), { isDefault: true });
  const commands = [
    createListCommand(getContext),
    createIsActiveCommand(getContext),
    ...(["start", "stop", "restart"] as const).map((act) => createActCommand(getContext, act)),
    createReloadCommand(getContext, isHost),
    createLogsCommand(getContext),
    createEventsCommand(getContext),
    createStatsCommand(getContext),
    createPoweroffCommand(getContext),
    createCompletionCommand(getContext, program),
  ];
  for (const command of commands) program.addCommand(command);
  for (const command of [program, ...program.commands])
    command.exitOverride().configureOutput({ writeErr: () => undefined });
  return program;
}
