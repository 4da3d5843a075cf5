import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";

import { Command } from "commander";

import { KitError } from "../../core/errors.ts";
import { toPrintable } from "../../core/printable.ts";
import { compareImages, type Comparison, type ImageDifference } from "../../rbuilds/image/compare-images.ts";
import { lockPath } from "../../rbuilds/lock/lock-file.ts";
import { loadEnclaveSpec } from "../config/load-spec.ts";
import { buildImageFile, readCurrentLock } from "../controller/enclave-image.ts";
import type { CommandContext, GetContext } from "./command-context.ts";

interface VerifyFlags {
  readonly from: string;
  readonly json?: boolean;
}

const SHOWN = 20;

export function createVerifyImageCommand(getContext: GetContext): Command {
  return new Command("verify-image")
    .description("rebuild an image from its project and lock, and compare")
    .argument("<eif>", "enclave image file")
    .requiredOption("--from <file>", "enclave.yaml that it is said to be built from")
    .option("--json", "print the differences as JSON")
    .addHelpText("after", "\nExamples:\n  pipeline verify-image signer.eif --from enclave.yaml")
    .action(async (eif: string, flags: VerifyFlags) => await runVerify(getContext(), resolve(eif), flags));
}

async function runVerify(context: CommandContext, eif: string, flags: VerifyFlags): Promise<void> {
  const { terminal } = context;
  const { differences, same, actual } = await rebuildAndCompare(context, eif, flags.from);
  if (flags.json === true) terminal.printJson({ eif, same, differences, pcrs: actual.pcrs });
  else if (same) terminal.print(`${eif} is what ${flags.from} and its lock give`);
  else for (const difference of differences.slice(0, SHOWN)) terminal.print(describe(difference));
  if (same) return;
  const error = new KitError("E_VERIFY_DIFFERENT", `${eif} has ${differences.length} difference(s)`);
  if (flags.json === true) process.exitCode = error.exitStatus;
  else throw error;
}

async function rebuildAndCompare(
  { toolkit, terminal, interrupted }: CommandContext,
  eif: string,
  from: string,
): Promise<Comparison> {
  const spec = await loadEnclaveSpec(from);
  const options = { spec, signal: interrupted, onProgress: (step: string) => terminal.progress(step) };
  const lock = await readCurrentLock(toolkit, options);
  if (lock === undefined) throw new KitError("E_LOCK_MISSING", `there is no ${lockPath(spec.file)}`);
  await mkdir(toolkit.cacheDir, { recursive: true });
  const work = await mkdtemp(join(toolkit.cacheDir, "eif-"));
  try {
    const output = join(work, "image.eif");
    await buildImageFile(toolkit, { ...options, lock, output, jobs: availableParallelism() });
    return await compareImages(output, eif, interrupted);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Names come from a file that somebody handed over. */
function describe({ part, path, attribute, expected, actual }: ImageDifference): string {
  const where = path === "" ? part : `${part}: ${toPrintable(path)}`;
  return `${where}: ${attribute}: expected ${toPrintable(expected)}, found ${toPrintable(actual)}`;
}
