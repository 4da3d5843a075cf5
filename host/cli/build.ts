import { X509Certificate } from "node:crypto";
import { mkdtemp, open, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";

import { Command, InvalidArgumentError } from "commander";

import { writeFileAtomic } from "../../core/atomic-file.ts";
import { isErrno, KitError } from "../../core/errors.ts";
import { renderBytes } from "../../core/text-table.ts";
import type { EnclaveLock } from "../../rbuilds/lock/enclave-lock.ts";
import { lockPath } from "../../rbuilds/lock/lock-file.ts";
import { openImageStore } from "../../rbuilds/store/image-store.ts";
import type { EnclaveSpec } from "../config/enclave-spec.ts";
import { loadEnclaveSpec } from "../config/load-spec.ts";
import { type BuiltFile, buildImageFile, readCurrentLock, updateLock } from "../controller/enclave-image.ts";
import { imageStorePath } from "../controller/image-store-path.ts";
import type { CommandContext, GetContext } from "./command-context.ts";

interface BuildFlags {
  readonly output?: string;
  readonly tag?: readonly string[];
  readonly jobs: number;
  readonly locked?: boolean;
  readonly signingCertificate?: string;
  readonly privateKey?: string;
  readonly json?: boolean;
}

const MAX_PEM_BYTES = 64 * 1024;
const READABLE = 0o644;
/** What the store keeps. */
const MAX_SUBJECT_CHARACTERS = 512;

export function createBuildCommand(getContext: GetContext): Command {
  return new Command("build")
    .description("build the enclave image file (EIF), the same bytes on every machine")
    .argument("<file>", "enclave.yaml")
    .option("-o, --output <file>", "write the image here instead of into the local store")
    .option("-t, --tag <name[:tag]>", "name in the local store (can be repeated)", collect)
    .option("-j, --jobs <number>", "compilers at once", parseJobs, availableParallelism())
    .option("--locked", "refuse to build without an enclave.lock")
    .option("--signing-certificate <file>", "sign the image: certificate, PEM")
    .option("--private-key <file>", "sign the image: EC key, PEM")
    .option("--json", "print where it is, its digest and its measurements as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  pipeline build enclave.yaml\n  pipeline build enclave.yaml -o signer.eif --json\n  pipeline build enclave.yaml --signing-certificate cert.pem --private-key key.pem",
    )
    .action(async (file: string, flags: BuildFlags) => await runBuild(getContext(), file, flags));
}

function collect(text: string, earlier: readonly string[] = []): string[] {
  return [...earlier, text];
}

function parseJobs(text: string): number {
  if (/^[1-9][0-9]{0,2}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("write a number from 1 to 999");
}

async function runBuild(context: CommandContext, file: string, flags: BuildFlags): Promise<void> {
  const spec = await loadEnclaveSpec(file);
  const signing = await readSigning(flags);
  const lock = await openLock(context, spec, flags);
  const built = await placeImage(context, { spec, lock, signing, flags });
  for (const warning of built.warnings) context.terminal.note(`warning: ${warning}`);
  if (flags.json === true) context.terminal.printJson(toJson(built, spec));
  else context.terminal.print(describe(built));
}

async function openLock(
  { toolkit, terminal, interrupted }: CommandContext,
  spec: EnclaveSpec,
  flags: BuildFlags,
): Promise<EnclaveLock> {
  const options = { spec, signal: interrupted, onProgress: (step: string) => terminal.progress(step) };
  const lock = await readCurrentLock(toolkit, options);
  if (lock !== undefined) return lock;
  if (flags.locked === true) throw new KitError("E_LOCK_MISSING", `there is no ${lockPath(spec.file)}`);
  const made = await updateLock(toolkit, options);
  terminal.note(
    `wrote ${lockPath(spec.file)}: keep it with the project, and every build gives the same bytes`,
  );
  return made;
}

interface Placing {
  readonly spec: EnclaveSpec;
  readonly lock: EnclaveLock;
  readonly signing: Signing | undefined;
  readonly flags: BuildFlags;
}

interface Placed extends BuiltFile {
  /** Where the image is in the end. */
  readonly eif: string;
  readonly provenancePath: string | undefined;
  readonly tags: readonly string[];
}

async function placeImage(context: CommandContext, placing: Placing): Promise<Placed> {
  const { flags } = placing;
  if (flags.output === undefined) return await buildIntoStore(context, placing);
  const output = resolve(flags.output);
  const built = await build(context, placing, output);
  const provenancePath = `${output}.provenance.json`;
  await writeFileAtomic(provenancePath, built.provenance, { mode: READABLE });
  const tags = flags.tag ?? [];
  if (tags.length > 0) await addToStore(context, placing, { ...built, path: output }, { tags, move: false });
  return { ...built, eif: output, provenancePath, tags };
}

async function build({ toolkit, terminal, interrupted }: CommandContext, placing: Placing, output: string) {
  const { spec, lock, signing, flags } = placing;
  const onProgress = (step: string): void => terminal.progress(step);
  const options = { spec, lock, output, jobs: flags.jobs, signing, signal: interrupted, onProgress };
  return await buildImageFile(toolkit, options);
}

async function buildIntoStore(context: CommandContext, placing: Placing): Promise<Placed> {
  const { toolkit } = context;
  const work = await mkdtemp(join(toolkit.cacheDir, "eif-"));
  try {
    const built = await build(context, placing, join(work, "image.eif"));
    const tags = placing.flags.tag ?? [placing.spec.name];
    const stored = await addToStore(context, placing, built, { tags, move: true });
    return { ...built, eif: stored.eifPath, provenancePath: stored.provenancePath, tags: stored.tags };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function addToStore(
  { toolkit, interrupted }: CommandContext,
  { spec, signing }: Placing,
  built: BuiltFile,
  { tags, move }: { readonly tags: readonly string[]; readonly move: boolean },
) {
  return await openImageStore(imageStorePath(toolkit)).add({
    eifPath: built.path,
    info: {
      digest: built.sha256,
      sizeBytes: built.sizeBytes,
      pcrs: { ...built.pcrs },
      name: spec.name,
      mode: spec.mode,
      architecture: built.architecture,
      kernelVersion: built.kernelVersion,
      signedBy: signing === undefined ? null : subjectOf(signing.certificatePem),
    },
    provenance: Buffer.from(built.provenance),
    tags,
    move,
    signal: interrupted,
  });
}

/** In one line. */
function subjectOf(certificatePem: string): string {
  return new X509Certificate(certificatePem).subject.replaceAll("\n", ", ").slice(0, MAX_SUBJECT_CHARACTERS);
}

interface Signing {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

/** @throws E_EIF_SIGNING_KEY, E_CONFIG_FILE_MISSING */
async function readSigning({ signingCertificate, privateKey }: BuildFlags): Promise<Signing | undefined> {
  if (signingCertificate === undefined && privateKey === undefined) return undefined;
  if (signingCertificate === undefined || privateKey === undefined)
    throw new KitError("E_USAGE", "--signing-certificate and --private-key belong together");
  return { certificatePem: await readPem(signingCertificate), privateKeyPem: await readPem(privateKey) };
}

async function readPem(path: string): Promise<string> {
  try {
    await using file = await open(path);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_PEM_BYTES + 1), 0, MAX_PEM_BYTES + 1, 0);
    if (bytesRead <= MAX_PEM_BYTES) return buffer.toString("latin1", 0, bytesRead);
  } catch (cause) {
    if (!isErrno(cause)) throw cause;
    throw new KitError("E_CONFIG_FILE_MISSING", `cannot read ${path}: ${cause.code}`, { cause });
  }
  throw new KitError("E_EIF_SIGNING_KEY", `${path} has more than ${MAX_PEM_BYTES} bytes`);
}

function toJson(built: Placed, spec: EnclaveSpec): unknown {
  const { eif, sha256, sizeBytes, pcrs, tags, provenancePath, kernelVersion, architecture } = built;
  return {
    name: spec.name,
    eif,
    sha256,
    sizeBytes,
    pcrs,
    mode: spec.mode,
    attestation: spec.attestation,
    architecture,
    kernelVersion,
    tags,
    provenance: provenancePath ?? null,
    lock: lockPath(spec.file),
  };
}

function describe({ eif, sha256, sizeBytes, pcrs, tags }: Placed): string {
  const lines = [
    `${eif}  ${renderBytes(sizeBytes)}`,
    `sha256  ${sha256}`,
    ...Object.entries(pcrs).map(([name, value]) => `${name}    ${value}`),
  ];
  return [...lines, ...(tags.length > 0 ? [`tags    ${tags.join(", ")}`] : [])].join("\n");
}
