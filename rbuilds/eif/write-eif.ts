/**
 * Writes enclave image files (wire/eif/eif-layout.ts). Two threads share the work: this one copies and takes PCR0 and
 * PCR1, the other one PCR2 and, where the header is known beforehand, the digest of the file.
 */
import { createHash, randomBytes } from "node:crypto";
import { type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { crc32 } from "node:zlib";

import { toKitError } from "../../core/errors.ts";
import type { EifArchitecture } from "../../wire/eif/eif-layout.ts";
import { type EifMetadata, encodeEifMetadata } from "../../wire/eif/metadata.ts";
import type { PreparedFile } from "../prepared-file.ts";
import { fileSizeOf, planHeader, type PlannedSection, planSections, type SectionInit } from "./eif-plan.ts";
import { changed, type HashPlan, type HashStep, readWhole, runHashPlan } from "./hash-plan.ts";
import { HashThread } from "./hash-thread.ts";
import { extendZero, type Pcrs } from "./measurements.ts";
import { openSigner, type SigningInput, type Signer } from "./eif-signer.ts";

export interface EifWriteRequest {
  readonly architecture: EifArchitecture;
  readonly kernel: PreparedFile;
  readonly commandLine: string;
  readonly metadata: EifMetadata;
  /** Each is the concatenation of its parts. */
  readonly ramdisks: readonly (readonly PreparedFile[])[];
  readonly signing?: SigningInput | undefined;
}

export interface EifWriteOptions {
  /** Program of the hashing thread: dist/eif-hasher.js. */
  readonly hasher: string;
  readonly signal?: AbortSignal | undefined;
  /** Now, for the certificate; the time of the call unless told. */
  readonly at?: Date;
}

export interface WrittenEif {
  readonly path: string;
  /** Of the file, lower-case hex. */
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly pcrs: Pcrs;
}

const READABLE = 0o644;

/**
 * The file appears under its name whole or not at all.
 * @throws E_EIF_SOURCE_CHANGED, E_EIF_SIGNING_KEY, E_EIF_CERTIFICATE_*, E_EIF_TOO_LARGE, E_DISK_FULL, the reason of the
 *   signal
 */
export async function writeEif(
  request: EifWriteRequest,
  path: string,
  options: EifWriteOptions,
): Promise<WrittenEif> {
  const signer =
    request.signing === undefined ? undefined : openSigner(request.signing, options.at ?? new Date());
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`);
  await mkdir(dirname(path), { recursive: true });
  try {
    const written = await writeTemporary(request, temporary, { ...options, signer });
    await rename(temporary, path);
    return { ...written, path };
  } catch (error) {
    await rm(temporary, { force: true });
    throw toKitError(error);
  }
}

interface Writing extends EifWriteOptions {
  readonly signer: Signer | undefined;
}

type Written = Omit<WrittenEif, "path">;

async function writeTemporary(request: EifWriteRequest, path: string, writing: Writing): Promise<Written> {
  const sections = planSections(sectionsOf(request));
  await using file = await open(path, "wx", READABLE);
  const unsigned = await writeSections(file, { request, sections, writing });
  const written = await finish(file, { request, sections, unsigned, writing });
  await file.datasync();
  return written;
}

function sectionsOf({ kernel, commandLine, metadata, ramdisks }: EifWriteRequest): SectionInit[] {
  return [
    { kind: "kernel", parts: [kernel] },
    { kind: "commandLine", parts: [Buffer.from(commandLine)] },
    { kind: "metadata", parts: [encodeEifMetadata(metadata)] },
    ...ramdisks.map((parts) => ({ kind: "ramdisk" as const, parts })),
  ];
}

interface Plan {
  readonly request: EifWriteRequest;
  readonly sections: readonly PlannedSection[];
  readonly writing: Writing;
}

interface Unsigned {
  readonly pcrs: Pcrs;
  /** Of the file without a signature. */
  readonly sha256: string;
}

/** Everything but the signature, and the header that an unsigned image has. */
async function writeSections(file: FileHandle, { request, sections, writing }: Plan): Promise<Unsigned> {
  const { signal, hasher } = writing;
  const header = planHeader(request.architecture, sections);
  await using thread = new HashThread(hasher, otherHalf(sections, header));
  await file.write(header, 0, header.length, 0);
  const registers = await copySections(file, sections, signal);
  const { pcr2 = "", sha256 = "" } = await thread.digests(signal);
  return { pcrs: { ...registers, PCR2: extendZero(pcr2) }, sha256 };
}

/** PCR2, and the digest of the whole file. */
function otherHalf(sections: readonly PlannedSection[], header: Buffer): HashPlan {
  const steps: HashStep[] = [{ source: header, into: ["sha256"] }];
  let ramdisks = 0;
  for (const section of sections) {
    steps.push({ source: section.header, into: ["sha256"] });
    if (section.kind === "ramdisk") ramdisks += 1;
    const into = section.kind === "ramdisk" && ramdisks > 1 ? ["pcr2", "sha256"] : ["sha256"];
    for (const part of section.parts)
      steps.push({
        source: part instanceof Uint8Array ? part : { path: part.path, sizeBytes: part.sizeBytes },
        into,
      });
  }
  return { digests: { pcr2: "sha384", sha256: "sha256" }, steps };
}

/** Copies all sections and measures the kernel, the command line and the ramdisks as they pass. */
async function copySections(
  file: FileHandle,
  sections: readonly PlannedSection[],
  signal: AbortSignal | undefined,
): Promise<Pick<Pcrs, "PCR0" | "PCR1">> {
  const hash = createHash("sha384");
  let first: string | undefined;
  for (const section of sections) {
    await writeAll(file, section.header, section.offset);
    let offset = section.offset + section.header.length;
    const measured = section.kind !== "metadata" ? hash : undefined;
    for (const part of section.parts) offset = await copyPart(file, part, { offset, measured, signal });
    if (section.kind === "ramdisk") first ??= hash.copy().digest("hex");
  }
  const all = hash.digest("hex");
  return { PCR0: extendZero(all), PCR1: extendZero(first ?? all) };
}

interface Copy {
  readonly offset: number;
  readonly measured: ReturnType<typeof createHash> | undefined;
  readonly signal: AbortSignal | undefined;
}

/** @returns where the next part goes */
async function copyPart(file: FileHandle, part: Uint8Array | PreparedFile, copy: Copy): Promise<number> {
  let { offset } = copy;
  if (part instanceof Uint8Array) {
    copy.measured?.update(part);
    await writeAll(file, part, offset);
    return offset + part.length;
  }
  let sum = 0;
  for await (const block of readWhole(part, copy.signal)) {
    // The write goes on in the kernel while this thread hashes.
    const writing = writeAll(file, block, offset);
    writing.catch(() => undefined);
    copy.measured?.update(block);
    sum = crc32(block, sum);
    await writing;
    offset += block.length;
  }
  if (sum !== part.crc32) throw changed(part.path, "has other content than when it was prepared");
  return offset;
}

async function writeAll(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, offset + done);
    done += bytesWritten;
  }
}

interface Finish extends Plan {
  readonly unsigned: Unsigned;
}

async function finish(file: FileHandle, { request, sections, unsigned, writing }: Finish): Promise<Written> {
  const { signer } = writing;
  if (signer === undefined) return { ...unsigned, sizeBytes: fileSizeOf(sections) };
  const section = signer.sign(Buffer.from(unsigned.pcrs.PCR0, "hex"));
  const signed = planSections([...sections, { kind: "signature", parts: [section] }]);
  const last = signed.at(-1);
  if (last === undefined) throw new TypeError("no sections");
  await writeAll(file, Buffer.concat([last.header, section]), last.offset);
  const header = planHeader(request.architecture, signed);
  await writeAll(file, header, 0);
  const sha256 = await digestSigned(signed, header, writing.signal);
  return { sha256, sizeBytes: fileSizeOf(signed), pcrs: { ...unsigned.pcrs, PCR8: signer.pcr8 } };
}

/** The header of a signed image depends on all of its content, so its digest takes a pass of its own. */
async function digestSigned(
  sections: readonly PlannedSection[],
  header: Buffer,
  signal: AbortSignal | undefined,
): Promise<string> {
  const into = ["sha256"];
  const steps: HashStep[] = sections.flatMap((section) =>
    [section.header, ...section.parts].map((source) => ({ source, into })),
  );
  const plan: HashPlan = { digests: { sha256: "sha256" }, steps: [{ source: header, into }, ...steps] };
  return (await runHashPlan(plan, signal))["sha256"] ?? "";
}
