import { resolve } from "node:path";

import { Command } from "commander";

import { toPrintable } from "../../core/printable.ts";
import { renderBytes } from "../../core/text-table.ts";
import { readKernelVersion } from "../../rbuilds/eif/kernel-version.ts";
import { type EifDescription, readEif } from "../../rbuilds/eif/read-eif.ts";
import { readRamdisk, type RamdiskEntry } from "../../rbuilds/ramdisk/read-ramdisk.ts";
import type { CommandContext, GetContext } from "./command-context.ts";

interface InspectFlags {
  readonly tree?: boolean;
  readonly json?: boolean;
}

interface RamdiskSummary {
  readonly sizeBytes: number;
  readonly unpackedBytes: number;
  readonly files: number;
  /** With --tree. */
  readonly entries?: readonly unknown[];
}

export function createInspectCommand(getContext: GetContext): Command {
  return new Command("inspect")
    .description("tell what an enclave image file holds, whoever built it")
    .argument("<eif>", "enclave image file")
    .option("--tree", "every file of the ramdisks")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  pipeline inspect signer.eif\n  pipeline inspect signer.eif --tree --json",
    )
    .action(async (eif: string, flags: InspectFlags) => await runInspect(getContext(), resolve(eif), flags));
}

async function runInspect(context: CommandContext, path: string, flags: InspectFlags): Promise<void> {
  const { terminal, interrupted } = context;
  const image = await readEif(path, { signal: interrupted });
  const kernel = image.sections.find((section) => section.kind === "kernel");
  const kernelVersion = kernel === undefined ? undefined : await readKernelVersion(path, kernel);
  const ramdisks: RamdiskSummary[] = [];
  for (const section of image.sections.filter(({ kind }) => kind === "ramdisk"))
    ramdisks.push(await summarise(context, path, { ...section, flags }));
  for (const warning of image.warnings) terminal.note(`warning: ${toPrintable(warning)}`);
  if (flags.json === true)
    terminal.printJson({ eif: path, ...image, kernelVersion: kernelVersion ?? null, ramdisks });
  else terminal.print(describe(image, kernelVersion, ramdisks));
}

async function summarise(
  { terminal, interrupted }: CommandContext,
  path: string,
  {
    offset,
    sizeBytes,
    flags,
  }: { readonly offset: number; readonly sizeBytes: number; readonly flags: InspectFlags },
): Promise<RamdiskSummary> {
  let unpackedBytes = 0;
  let files = 0;
  const entries: unknown[] = [];
  for await (const entry of readRamdisk(path, { offset, sizeBytes, signal: interrupted })) {
    files += 1;
    unpackedBytes += entry.sizeBytes;
    if (flags.tree !== true) continue;
    if (flags.json === true) entries.push(toJson(entry));
    else terminal.print(describeEntry(entry));
  }
  return {
    sizeBytes,
    unpackedBytes,
    files,
    ...(flags.tree === true && flags.json === true ? { entries } : {}),
  };
}

/** The path as bytes is told only where it says more than the text. */
function toJson({ pathBytes, ...entry }: RamdiskEntry): unknown {
  const isText = pathBytes.equals(Buffer.from(entry.path));
  return isText ? entry : { ...entry, pathHex: pathBytes.toString("hex") };
}

function describeEntry(entry: RamdiskEntry): string {
  const { mode, uid, gid, sizeBytes, path, linkTarget } = entry;
  const target = linkTarget === undefined ? "" : ` -> ${toPrintable(linkTarget)}`;
  const octal = mode.toString(8).padStart(4, "0");
  return `${entry.type.padEnd(9)} ${octal} ${uid}:${gid} ${String(sizeBytes).padStart(10)} ${toPrintable(path)}${target}`;
}

function describe(
  image: EifDescription,
  kernelVersion: string | undefined,
  ramdisks: readonly RamdiskSummary[],
): string {
  const lines = [
    `version       ${image.version}`,
    `architecture  ${image.architecture}`,
    `size          ${renderBytes(image.sizeBytes)}`,
    `sha256        ${image.sha256}`,
    ...Object.entries(image.pcrs).map(([name, value]) => `${name}          ${value}`),
    `signature     ${describeSignature(image)}`,
    `kernel        ${toPrintable(kernelVersion ?? "of no known version")}`,
    `command line  ${toPrintable(image.commandLine)}`,
    `metadata      ${toPrintable(JSON.stringify(image.metadata))}`,
    ...image.sections.map(
      ({ kind, offset, sizeBytes }) => `section       ${kind} at ${offset}, ${sizeBytes} bytes`,
    ),
    ...ramdisks.map(
      ({ sizeBytes, unpackedBytes, files }, index) =>
        `ramdisk ${index}     ${renderBytes(sizeBytes)}, ${files} files of ${renderBytes(unpackedBytes)}`,
    ),
  ];
  return lines.join("\n");
}

function describeSignature({ signature }: EifDescription): string {
  if (signature === null) return "none";
  const { subject, notAfter } = signature.certificate;
  return `${signature.state}, ${signature.algorithm}, ${toPrintable(subject)}, until ${notAfter}`;
}
