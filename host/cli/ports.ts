import { Command } from "commander";
import { z } from "zod";

import { KitError } from "../../core/errors.ts";
import { renderTable } from "../../core/text-table.ts";
import type { PortSpec } from "../config/enclave-spec.ts";
import { formatPortMapping, parsePortMapping } from "../config/port-mapping.ts";
import { inspectEnclave, isLive } from "../controller/inspect.ts";
import { askRunner } from "../controller/runner-client.ts";
import type { CommandContext, GetContext } from "./command-context.ts";

const EXAMPLES = [
  "pipeline ports hello list",
  "pipeline ports hello add 127.0.0.1:9090:8080",
  "pipeline ports hello remove 127.0.0.1:9090:8080",
];

interface PortsFlags {
  readonly json?: boolean;
}

export function createPortsCommand(getContext: GetContext): Command {
  return new Command("ports")
    .description("list, add and remove the listeners of a running enclave")
    .argument("<name>", "name of the enclave")
    .argument("[action]", "list, add or remove", "list")
    .argument("[mapping]", "[ADDRESS:]HOST_PORT:SERVICE_PORT")
    .option("--json", "print JSON")
    .addHelpText("after", `\nExamples:\n  ${EXAMPLES.join("\n  ")}`)
    .action(async (name: string, action: string, mapping: string | undefined, flags: PortsFlags) => {
      const context = getContext();
      const show = flags.json === true ? showJson : showText;
      if (action === "list") return show(context, await listPorts(context, name));
      const port = readMapping(action, mapping);
      if (action === "add") return show(context, [await addPort(context, name, port)]);
      await removePort(context, name, port);
    });
}

async function listPorts({ toolkit }: CommandContext, name: string): Promise<readonly PortSpec[]> {
  const record = await inspectEnclave(toolkit.stateDir, name);
  if (isLive(record)) return record.ports;
  throw new KitError("E_HOST_NOT_RUNNING", `enclave ${name} is ${record.state}`);
}

function readMapping(action: string, mapping: string | undefined): PortSpec {
  if (action !== "add" && action !== "remove")
    throw new KitError("E_USAGE", `ports has no action ${JSON.stringify(action)}`, {
      hint: "Say list, add or remove.",
    });
  const port = mapping === undefined ? undefined : parsePortMapping(mapping);
  if (port !== undefined) return port;
  throw new KitError("E_CONFIG_PORT", `${action} needs a port mapping such as 127.0.0.1:9090:8080`);
}

const PortSchema = z.object({ hostAddress: z.string(), hostPort: z.int(), servicePort: z.int() });

async function addPort(context: CommandContext, name: string, port: PortSpec): Promise<PortSpec> {
  return PortSchema.parse(await ask(context, "POST", name, port));
}

async function removePort(context: CommandContext, name: string, port: PortSpec): Promise<void> {
  await ask(context, "DELETE", name, port);
}

async function ask(
  context: CommandContext,
  method: "POST" | "DELETE",
  name: string,
  port: PortSpec,
): Promise<unknown> {
  await listPorts(context, name);
  const path = `/ports?mapping=${encodeURIComponent(formatPortMapping(port))}`;
  return await askRunner(context.toolkit.stateDir, name, { method, path, signal: context.interrupted });
}

function showJson({ terminal }: CommandContext, ports: readonly PortSpec[]): void {
  terminal.printJson(ports);
}

function showText({ terminal }: CommandContext, ports: readonly PortSpec[]): void {
  const rows = ports.map(({ hostAddress, hostPort, servicePort }) => [
    `${hostAddress.includes(":") ? `[${hostAddress}]` : hostAddress}:${hostPort}`,
    String(servicePort),
  ]);
  terminal.print(renderTable([["HOST", "SERVICE PORT"], ...rows]));
}
