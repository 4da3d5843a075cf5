import { Command } from "commander";

import type { GetContext } from "./command-context.ts";
import { toImageJson } from "./images.ts";
import { openLocalImages } from "./local-images.ts";

export function createTagCommand(getContext: GetContext): Command {
  return new Command("tag")
    .description("give an image that is stored here one more name")
    .argument("<reference>", "NAME[:TAG], sha256:DIGEST or the first digits of a digest")
    .argument("<new>", "NAME[:TAG]; if it is of another image it moves")
    .option("--json", "print the image as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  pipeline tag counter counter:1.2\n  pipeline tag 3f9a01c2 team/counter:stable",
    )
    .action(async (reference: string, name: string, flags: { readonly json?: boolean }) => {
      const context = getContext();
      const image = await openLocalImages(context).tag(reference, name);
      if (flags.json === true) context.terminal.printJson(toImageJson(image));
    });
}
