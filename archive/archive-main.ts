/**
 * Copies inside the enclave: started by the supervisor as root, with the two ends of the copy as descriptors.
 *
 *   archive.mjs pack PATH                            writes a tar archive to descriptor 1
 *   archive.mjs unpack [--owners keep|caller] DEST   reads one from descriptor 0
 *
 * At its end it says on descriptor 2 how it went (wire/archive-report.ts); a refusal is exit status 1. SIGTERM ends the
 * copy and leaves nothing half-made.
 */
import { parseArgs } from "node:util";

import { KitError, toKitError } from "../core/errors.ts";
import { type ArchiveSummary, encodeArchiveRefusal, encodeArchiveSummary } from "../wire/archive-report.ts";
import { openInputDescriptor, openOutputDescriptor } from "./descriptor-streams.ts";
import { packArchive } from "./pack-archive.ts";
import { unpackArchive } from "./unpack-archive.ts";

const USAGE = "usage: archive.mjs pack PATH | archive.mjs unpack [--owners keep|caller] DEST";

async function runCopy(words: readonly string[], signal: AbortSignal): Promise<ArchiveSummary> {
  const { positionals, values } = parseWords(words);
  const [direction, path] = positionals;
  const owners = values.owners;
  if (path === undefined || positionals.length > 2) throw new KitError("E_USAGE", USAGE);
  if (direction === "pack") {
    const output = await openOutputDescriptor(1);
    return await packArchive(path, { output, signal });
  }
  if (direction !== "unpack" || (owners !== "keep" && owners !== "caller"))
    throw new KitError("E_USAGE", USAGE);
  const input = await openInputDescriptor(0);
  return await unpackArchive(path, { input, signal, owners, specialModes: "keep" });
}

function parseWords(words: readonly string[]): ReturnType<typeof parseArgs<typeof FORM>> {
  try {
    return parseArgs({ ...FORM, args: [...words] });
  } catch (error) {
    throw new KitError("E_USAGE", USAGE, { cause: error });
  }
}

const FORM = {
  allowPositionals: true,
  options: { owners: { type: "string", default: "keep" } },
} as const;

async function runProgram(words: readonly string[], signal: AbortSignal): Promise<number> {
  try {
    await report(encodeArchiveSummary(await runCopy(words, signal)));
    return 0;
  } catch (error) {
    await report(encodeArchiveRefusal(toKitError(error)));
    return 1;
  }
}

async function report(line: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  // Nobody may be there to read it; the exit status says the same then.
  process.stderr.on("error", () => resolve());
  process.stderr.write(line, () => resolve());
  await promise;
}

const stop = new AbortController();
for (const name of ["SIGTERM", "SIGINT"]) process.on(name, () => stop.abort());
process.umask(0o077);

process.exit(await runProgram(process.argv.slice(2), stop.signal));
