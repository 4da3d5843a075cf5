import { Command } from "commander";

import { KitError } from "../../core/errors.ts";
import type { ReloadResult } from "../../wire/control.ts";
import type { GetInitctlContext, InitctlContext } from "./initctl-context.ts";

interface ReloadFlags {
  readonly image?: boolean;
  readonly json?: boolean;
}

/** @param hasFile on the host: an enclave.yaml may be read again. */
export function createReloadCommand(getContext: GetInitctlContext, hasFile: boolean): Command {
  const command = new Command("reload")
    .description(
      hasFile
        ? "read enclave.yaml again and change only the services that changed"
        : "go back to the image's own configuration; services that did not change go on",
    )
    .option("--json", "print what changed as JSON")
    .addHelpText("after", `\nExamples:\n  initctl reload\n  initctl reload --${hasFile ? "image" : "json"}`);
  if (hasFile) command.option("--image", "go back to the image's own configuration");
  return command.action(async (flags: ReloadFlags) => await runReload(getContext(), flags));
}

async function runReload(context: InitctlContext, flags: ReloadFlags): Promise<void> {
  const { terminal, interrupted, computeOverrides, takeEgress } = context;
  const client = await context.connect();
  terminal.progress("reading the configuration");
  const overrides = flags.image === true ? {} : ((await computeOverrides?.(interrupted)) ?? {});
  terminal.progress("reloading");
  // The host first: what it allows beyond the enclave's own rules leads nowhere, and the other way round connections fail.
  const undo = await takeEgress?.(overrides.egress, interrupted);
  const result = await client.reload(overrides, interrupted).catch(async (error: unknown) => {
    await undo?.();
    throw error;
  });
  if (flags.json === true) terminal.printJson(result);
  else terminal.print(renderReload(result));
}

function renderReload({ added, removed, changed, unchanged }: ReloadResult): string {
  const lines = Object.entries({ added, removed, changed }).flatMap(([word, names]) =>
    names.length === 0 ? [] : [`${word}: ${names.join(", ")}`],
  );
  const rest = unchanged.length === 0 ? [] : [`unchanged: ${unchanged.join(", ")}`];
  return [...(lines.length === 0 ? ["nothing changed"] : lines), ...rest].join("\n");
}

export function createPoweroffCommand(getContext: GetInitctlContext): Command {
  return new Command("poweroff")
    .description("stop the services in order and end the enclave")
    .argument("[nothing]", "takes no names: it ends the whole enclave")
    .addHelpText("after", "\nExamples:\n  initctl poweroff")
    .action(async (word: string | undefined) => {
      if (word !== undefined)
        throw new KitError("E_USAGE", "poweroff ends the whole enclave and takes no names", {
          hint: `To stop one service: initctl stop ${word}`,
        });
      const { connect, terminal, interrupted } = getContext();
      await (await connect()).poweroff(interrupted);
      terminal.print("the enclave stops its services and ends");
    });
}
