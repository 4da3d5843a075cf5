import { once } from "node:events";
import { Command } from "commander";

import { KitError } from "../../core/errors.ts";
import { renderBytes } from "../../core/text-table.ts";
import type { SavePlan } from "../../rbuilds/store/save-images.ts";
import { writeUserFile } from "../../rbuilds/store/user-files.ts";
import type { CommandContext, GetContext } from "./command-context.ts";
import { openLocalImages, TransferProgress } from "./local-images.ts";

interface SaveFlags {
  readonly output?: string;
  readonly json?: boolean;
}

export function createSaveCommand(getContext: GetContext): Command {
  return new Command("save")
    .description(
      "write images that are stored here, and the tags that name them, into one tar (an OCI image layout)",
    )
    .argument("<references...>", "NAME[:TAG], sha256:DIGEST or the first digits of a digest")
    .option("-o, --output <file>", "into this file; standard output unless told")
    .option("--json", "print what was saved as JSON; needs --output")
    .addHelpText(
      "after",
      "\nExamples:\n  pipeline save counter:1.2 -o counter.tar\n  pipeline save counter | ssh host pipeline load",
    )
    .action(async (references: readonly string[], flags: SaveFlags) => {
      await saveImages(getContext(), references, flags);
    });
}

async function saveImages(
  context: CommandContext,
  references: readonly string[],
  { output, json }: SaveFlags,
): Promise<void> {
  const { terminal, interrupted: signal } = context;
  if (output === undefined) refuseStdout(json === true);
  const progress = new TransferProgress(context, "saving");
  const plan = await openLocalImages(context).save(references, {
    signal,
    onProgress: ({ bytes, totalBytes }) => progress.report(bytes, totalBytes),
  });
  if (output === undefined) return await writeStdout(plan, signal);
  await writeUserFile(output, plan.stream());
  const images = plan.images.map(({ digest, tags }) => ({ digest: `sha256:${digest}`, tags }));
  if (json === true) terminal.printJson({ file: output, sizeBytes: plan.totalBytes, images });
  else terminal.note(`saved ${countImages(images.length)}, ${renderBytes(plan.totalBytes)}`);
}

function countImages(count: number): string {
  return `${count} ${count === 1 ? "image" : "images"}`;
}

function refuseStdout(isJson: boolean): void {
  if (isJson)
    throw new KitError("E_USAGE", "the archive itself is on standard output; --json needs --output");
  if (!process.stdout.isTTY) return;
  throw new KitError("E_USAGE", "an archive is not for a terminal", {
    hint: "Send it into a file or a pipe: pipeline save NAME -o FILE.tar",
  });
}

async function writeStdout(plan: SavePlan, signal: AbortSignal): Promise<void> {
  const { stdout } = process;
  for await (const chunk of plan.stream()) if (!stdout.write(chunk)) await once(stdout, "drain", { signal });
}
