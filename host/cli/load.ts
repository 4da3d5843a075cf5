import { addAbortSignal } from "node:stream";
import { isDeepStrictEqual } from "node:util";

import { Command } from "commander";

import { KitError } from "../../core/errors.ts";
import { readEif } from "../../rbuilds/eif/read-eif.ts";
import type { ImageDescription } from "../../rbuilds/store/image-info.ts";
import { readUserFile } from "../../rbuilds/store/user-files.ts";
import type { CommandContext, GetContext } from "./command-context.ts";
import { toImageJson } from "./images.ts";
import { openLocalImages, TransferProgress } from "./local-images.ts";

interface LoadFlags {
  readonly input?: string;
  readonly json?: boolean;
}

export function createLoadCommand(getContext: GetContext): Command {
  return new Command("load")
    .description(
      "store the images of a tar that `pipeline save` wrote: all, or none if anything is wrong with it",
    )
    .option("-i, --input <file>", "from this file; standard input unless told")
    .option("--json", "print the images as JSON")
    .addHelpText("after", "\nExamples:\n  pipeline load -i counter.tar\n  pipeline load --json < counter.tar")
    .action(async (flags: LoadFlags) => {
      await loadImages(getContext(), flags);
    });
}

/** An archive may say of an image what it likes; what it measures is computed here. */
async function checkMeasurements(
  path: string,
  { digest, pcrs }: ImageDescription,
  signal: AbortSignal,
): Promise<void> {
  const image = await readEif(path, { signal });
  if (isDeepStrictEqual({ ...pcrs }, { ...image.pcrs })) return;
  throw new KitError(
    "E_STORE_DIGEST",
    `the archive tells other measurements of sha256:${digest} than it has`,
  );
}

async function loadImages(context: CommandContext, { input, json }: LoadFlags): Promise<void> {
  const { terminal, interrupted: signal } = context;
  if (input === undefined && process.stdin.isTTY) {
    throw new KitError("E_USAGE", "an archive does not come from a terminal", {
      hint: "Name a file, or send one in: pipeline load -i FILE.tar",
    });
  }
  const progress = new TransferProgress(context, "loading");
  const stream = input === undefined ? addAbortSignal(signal, process.stdin) : readUserFile(input);
  const images = await openLocalImages(context).load(stream, {
    signal,
    onProgress: (bytes) => progress.report(bytes),
    verify: async (path, description) => await checkMeasurements(path, description, signal),
  });
  if (json === true) return terminal.printJson(images.map(toImageJson));
  for (const { digest, tags } of images)
    terminal.print(`loaded sha256:${digest}${tags.map((tag) => ` ${tag}`).join("")}`);
}
