import { Command } from "commander";

import type { CommandContext, GetContext } from "./command-context.ts";
import { openLocalImages } from "./local-images.ts";

interface RemoveFlags {
  readonly force?: boolean;
  readonly json?: boolean;
}

export function createRmiCommand(getContext: GetContext): Command {
  return new Command("rmi")
    .description("take tags off images that are stored here, and remove images with their last tag")
    .argument("<references...>", "NAME[:TAG], sha256:DIGEST or the first digits of a digest")
    .option("-f, --force", "also an image with several tags, by its digest")
    .option("--json", "print what went as JSON")
    .addHelpText("after", "\nExamples:\n  pipeline rmi counter:1.1\n  pipeline rmi --force 3f9a01c2")
    .action(async (references: readonly string[], flags: RemoveFlags) => {
      await removeImages(getContext(), references, flags);
    });
}

async function removeImages(
  context: CommandContext,
  references: readonly string[],
  flags: RemoveFlags,
): Promise<void> {
  const { terminal } = context;
  const removal = await openLocalImages(context).remove(references, { force: flags.force === true });
  const { untagged, freedBytes } = removal;
  const deleted = removal.deleted.map((digest) => `sha256:${digest}`);
  if (flags.json === true) return terminal.printJson({ untagged, deleted, freedBytes });
  for (const tag of untagged) terminal.print(`untagged ${tag}`);
  for (const digest of deleted) terminal.print(`deleted ${digest}`);
}
