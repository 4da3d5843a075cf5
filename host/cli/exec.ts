import { Command, type CommanderError, InvalidArgumentError } from "commander";

import { ControlClient } from "../../control/control-client.ts";
import { type ExecOptions, runExec } from "../../control/exec-session.ts";
import { withServiceNames } from "../../control/initctl/service-names.ts";
import { KitError } from "../../core/errors.ts";
import { toPrintable } from "../../core/printable.ts";
import type { ExecRequest, ExecStatus } from "../../wire/control.ts";
import { dialEnclave } from "../controller/enclave-dialer.ts";
import type { CommandContext, GetContext } from "./command-context.ts";
import { enterRawMode, readTerminalSize, watchTerminalSize } from "./raw-terminal.ts";

interface ExecFlags {
  readonly interactive?: boolean;
  readonly tty?: boolean;
  readonly service?: string;
  readonly user?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly workdir?: string;
}

export function createExecCommand(getContext: GetContext): Command {
  return new Command("exec")
    .description("run a command inside an enclave; its exit status is the command's")
    .argument("<name>", "name of the enclave")
    .argument("<command...>", "program and arguments, after --")
    .option("-i, --interactive", "give it this command's standard input; else its input is empty")
    .option("-t, --tty", "give it a terminal")
    .option(
      "-s, --service <service>",
      "run it as this service: its user, environment, directory and confinement",
    )
    .option("-u, --user <user>", "run it as this user: a name, uid or uid:gid")
    .option("-e, --env <name=value>", "add a variable to its environment (can be repeated)", collectVariable)
    .option("-w, --workdir <dir>", "run it in this directory")
    .addHelpText(
      "after",
      "\nExamples:\n  pipeline exec counter -- cat /etc/os-release\n  pipeline exec -it counter -- sh\n" +
        "  pipeline exec -i -s web counter -- tee /tmp/x < file",
    )
    .action(async (name: string, command: readonly string[], flags: ExecFlags) => {
      const context = getContext();
      const status = await executeCommand(context, name, toRequest(command, flags), flags);
      if (status.reason?.startsWith("not executed") === true)
        context.terminal.note(`${command[0] ?? ""}: ${toPrintable(status.reason)}`);
      process.exitCode = status.exitCode ?? 1;
    });
}

/** What is said to whoever wrote the options of the command without `--` before it. */
export function hintForExec(error: CommanderError, words: readonly string[]): string | undefined {
  const isExec = error.code === "commander.unknownOption" && words.includes("exec") && !words.includes("--");
  return isExec ? "Write -- before the command: pipeline exec NAME -- ls -l" : undefined;
}

function collectVariable(
  text: string,
  earlier: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const [, name, value = ""] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (name === undefined) throw new InvalidArgumentError("write NAME=VALUE");
  return { ...earlier, [name]: value };
}

function toRequest(command: readonly string[], flags: ExecFlags): ExecRequest {
  const { service, user, workdir } = flags;
  if (workdir?.startsWith("/") === false)
    throw new KitError("E_USAGE", `--workdir ${JSON.stringify(workdir)} is not absolute`);
  // As docker does: without a kind of terminal no program draws on one.
  const environment = flags.tty === true ? { TERM: "xterm", ...flags.env } : flags.env;
  return {
    command,
    ...(service === undefined ? {} : { service }),
    ...(user === undefined ? {} : { user }),
    ...(environment === undefined ? {} : { environment }),
    ...(workdir === undefined ? {} : { workingDir: workdir }),
    ...(flags.tty === true ? { tty: true } : {}),
  };
}

async function executeCommand(
  { toolkit, interrupted }: CommandContext,
  name: string,
  request: ExecRequest,
  flags: ExecFlags,
): Promise<ExecStatus> {
  const { stdin, stdout, stderr } = process;
  if (flags.tty === true && !stdin.isTTY) {
    throw new KitError("E_USAGE", "-t needs a terminal, and standard input is none", {
      hint: "Leave -t out; -i alone passes a pipe or a file on.",
    });
  }
  const client = new ControlClient(await dialEnclave(toolkit.stateDir, name));
  const options: ExecOptions = {
    stdout,
    stderr,
    signal: interrupted,
    ...(flags.interactive === true ? { stdin } : {}),
    ...(flags.tty === true ? { size: readTerminalSize(stdout), onResize: watchTerminalSize(stdout) } : {}),
  };
  using _raw = flags.tty === true ? enterRawMode(stdin) : undefined;
  const run = async (): Promise<ExecStatus> => await runExec(client, request, options);
  const service = { name: request.service ?? "", signal: interrupted };
  return await withServiceNames(client, service, run);
}
