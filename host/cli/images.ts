import { Command } from "commander";

import { KitError } from "../../core/errors.ts";
import { renderAge, renderBytes, renderTable } from "../../core/text-table.ts";
import type { StoredImage } from "../../rbuilds/store/image-lookup.ts";
import type { CommandContext, GetContext } from "./command-context.ts";
import { openLocalImages, shortDigest } from "./local-images.ts";

interface ImagesFlags {
  readonly json?: boolean;
  readonly trunc: boolean;
  readonly prune?: boolean;
}

export function createImagesCommand(getContext: GetContext): Command {
  return new Command("images")
    .description("list the enclave images that are stored here, or remove those without a tag")
    .option("--no-trunc", "whole digests")
    .option("--prune", "remove images without a tag, and what interrupted commands left")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  pipeline images\n  pipeline images --json\n  pipeline images --prune",
    )
    .action(async (flags: ImagesFlags) => {
      const context = getContext();
      if (flags.prune === true) await pruneImages(context, flags);
      else await listImages(context, flags);
    });
}

const HEAD = ["NAME", "TAG", "DIGEST", "SIZE", "MODE", "CREATED"];
const NO_NAME = "<none>";

async function listImages(context: CommandContext, flags: ImagesFlags): Promise<void> {
  const { terminal } = context;
  const { images, damaged } = await openLocalImages(context).list();
  for (const error of damaged) terminal.note(`warning: ${error.message} (${error.hint})`);
  if (flags.json === true) return terminal.printJson(images.map(toImageJson));
  const rows = images.flatMap((image) => toRows(image, flags.trunc)).sort(compareRows);
  terminal.print(renderTable([HEAD, ...rows]));
}

/** One for each tag. */
function toRows({ digest, tags, info }: StoredImage, isShort: boolean): string[][] {
  const { sizeBytes, mode, createdAt } = info;
  const shown = isShort ? shortDigest(digest) : `sha256:${digest}`;
  const age = `${renderAge(Date.now() - Date.parse(createdAt))} ago`;
  const rest = [shown, renderBytes(sizeBytes), mode, age];
  if (tags.length === 0) return [[NO_NAME, NO_NAME, ...rest]];
  return tags.map((tag) => [...tag.split(":"), ...rest]);
}

function compareRows(a: readonly string[], b: readonly string[]): number {
  return a.slice(0, 3).join(" ") < b.slice(0, 3).join(" ") ? -1 : 1;
}

/** The form of an image wherever one is printed as JSON. */
export function toImageJson({ digest, tags, info, eifPath, provenancePath }: StoredImage): unknown {
  return { ...info, digest: `sha256:${digest}`, tags, eif: eifPath, provenance: provenancePath ?? null };
}

async function pruneImages(context: CommandContext, flags: ImagesFlags): Promise<void> {
  const { terminal } = context;
  if (!flags.trunc) throw new KitError("E_USAGE", "--no-trunc is for the list, not for --prune");
  terminal.progress("removing images");
  const { untagged, deleted, freedBytes, abandoned } = await openLocalImages(context).collectGarbage();
  if (flags.json === true) {
    const digests = deleted.map((digest) => `sha256:${digest}`);
    return terminal.printJson({ untagged, deleted: digests, freedBytes, abandoned: abandoned.count });
  }
  for (const tag of untagged) terminal.print(`untagged ${tag}`);
  for (const digest of deleted) terminal.print(`deleted sha256:${digest}`);
  if (abandoned.count > 0) terminal.print(`removed what ${abandoned.count} interrupted commands left`);
  terminal.print(`freed ${renderBytes(freedBytes)}`);
}
