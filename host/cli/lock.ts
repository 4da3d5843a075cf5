import { Command } from "commander";

import { compareLocks, renderChange } from "../../rbuilds/lock/lock-difference.ts";
import { lockPath, readLockFile } from "../../rbuilds/lock/lock-file.ts";
import { loadEnclaveSpec } from "../config/load-spec.ts";
import { readCurrentLock, updateLock } from "../controller/enclave-image.ts";
import type { CommandContext, GetContext } from "./command-context.ts";

interface LockFlags {
  readonly update?: boolean;
  readonly json?: boolean;
}

export function createLockCommand(getContext: GetContext): Command {
  return new Command("lock")
    .description("write enclave.lock: every input of the image by version and digest")
    .argument("<file>", "enclave.yaml")
    .option("--update", "resolve everything anew and print what changed")
    .option("--json", "print the changes as JSON")
    .addHelpText("after", "\nExamples:\n  pipeline lock enclave.yaml\n  pipeline lock enclave.yaml --update")
    .action(async (file: string, flags: LockFlags) => await runLock(getContext(), file, flags));
}

/** Without --update a lock that is there is only checked. */
async function runLock(context: CommandContext, file: string, flags: LockFlags): Promise<void> {
  const { toolkit, terminal, interrupted } = context;
  const spec = await loadEnclaveSpec(file);
  const path = lockPath(spec.file);
  const options = { spec, signal: interrupted, onProgress: (step: string) => terminal.progress(step) };
  const isUpdate = flags.update === true;
  const before = isUpdate ? await readLockFile(path) : await readCurrentLock(toolkit, options);
  if (before !== undefined && !isUpdate) return report(context, flags, { path, changes: [] });
  const after = await updateLock(toolkit, options);
  if (before === undefined) {
    if (flags.json === true) terminal.printJson({ lock: path, created: true, changes: [] });
    else terminal.print(`wrote ${path}`);
    return;
  }
  report(context, flags, { path, changes: compareLocks(before, after) });
}

function report(
  { terminal }: CommandContext,
  flags: LockFlags,
  { path, changes }: { readonly path: string; readonly changes: ReturnType<typeof compareLocks> },
): void {
  if (flags.json === true) terminal.printJson({ lock: path, created: false, changes });
  else if (changes.length === 0) terminal.print(`${path} is up to date`);
  else terminal.print(changes.map(renderChange).join("\n"));
}
