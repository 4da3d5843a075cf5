/** The links of update-alternatives: for each name, the alternative of the highest priority that is in the image. */
import {
  type Alternative,
  type AlternativeLink,
  readAlternativeCommands,
} from "../maintainer-script/alternative-commands.ts";
import { readScriptCommands } from "../maintainer-script/script-commands.ts";
import { entryAt, type FinishContext, writeLink } from "./finish-context.ts";

export function finishAlternatives(context: FinishContext): Promise<void> {
  const best = new Map<string, Alternative>();
  for (const each of context.packages) {
    const commands = each.control.scripts.flatMap(readScriptCommands);
    for (const alternative of readAlternativeCommands(commands)) {
      const known = best.get(alternative.name);
      const isPresent = entryAt(context.tree, alternative.path) !== undefined;
      if (isPresent && (known === undefined || alternative.priority > known.priority)) {
        best.set(alternative.name, alternative);
      }
    }
  }
  for (const alternative of best.values()) {
    for (const link of [alternative, ...alternative.slaves]) makeLinks(context, link);
  }
  return Promise.resolve();
}

function makeLinks(context: FinishContext, { link, name, path }: AlternativeLink): void {
  const isTaken = context.tree.get(link) !== undefined;
  if (isTaken || entryAt(context.tree, path) === undefined) return;
  writeLink(context.tree, `/etc/alternatives/${name}`, path);
  writeLink(context.tree, link, `/etc/alternatives/${name}`);
}
