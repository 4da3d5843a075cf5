import { Command } from "commander";

import { ControlClient } from "../../control/control-client.ts";
import { copyFrames } from "../../control/exec-session.ts";
import { withServiceNames } from "../../control/initctl/service-names.ts";
import { showEvents, untilInterrupted } from "../../control/initctl/stream-commands.ts";
import { dialEnclave } from "../controller/enclave-dialer.ts";
import type { GetContext } from "./command-context.ts";

export function createEventsCommand(getContext: GetContext): Command {
  return new Command("events")
    .description("show what happened to an enclave and its services")
    .argument("<name>", "name of the enclave")
    .option("-f, --follow", "go on with what comes, until the enclave ends")
    .option("--json", "one JSON object a line")
    .addHelpText("after", "\nExamples:\n  pipeline events hello\n  pipeline events hello -f --json")
    .action(async (name: string, flags: { readonly follow?: boolean; readonly json?: boolean }) => {
      const { toolkit, terminal, interrupted } = getContext();
      const connect = async (): Promise<ControlClient> =>
        new ControlClient(await dialEnclave(toolkit.stateDir, name));
      await showEvents({ connect, terminal, interrupted }, flags);
    });
}

export function createAttachCommand(getContext: GetContext): Command {
  return new Command("attach")
    .description("show what a service prints from now on, byte for byte, until Ctrl-C")
    .argument("<name>", "name of the enclave")
    .argument("<service>", "name of the service")
    .addHelpText("after", "\nExamples:\n  pipeline attach counter web")
    .action(async (name: string, service: string) => {
      const { toolkit, interrupted } = getContext();
      const client = new ControlClient(await dialEnclave(toolkit.stateDir, name));
      const attach = async (): Promise<void> => {
        const socket = await client.attach(service, interrupted);
        using _socket = { [Symbol.dispose]: () => socket.destroy() };
        await copyFrames(socket, process, interrupted);
      };
      await untilInterrupted(interrupted, true, async () => {
        await withServiceNames(client, { name: service, signal: interrupted }, attach);
      });
    });
}
