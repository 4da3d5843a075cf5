/**
 * Reads enclave image files of anybody: strict, following the table of sections, in bounded memory. A file with gaps
 * boots on the hypervisor, and AWS's reader takes unknown flags and a command line that ends in NUL bytes, so those are
 * warnings; everything else that is not as it should be is refused.
 */
import { constants, type FileHandle, open } from "node:fs/promises";

import { isErrno, KitError } from "../../core/errors.ts";
import { decodeEifHeader, decodeSectionHeader, type EifHeader } from "../../wire/eif/eif-header.ts";
import {
  type EifArchitecture,
  type EifSection,
  HEADER_BYTES,
  MAX_EIF_BYTES,
  MAX_SECTION_BYTES,
  SECTION_HEADER_BYTES,
  type SectionKind,
} from "../../wire/eif/eif-layout.ts";
import { decodeEifMetadata, type EifMetadata } from "../../wire/eif/metadata.ts";
import { type CheckedSignature, checkSignature } from "./check-signature.ts";
import { expired, notYetValid } from "./certificate-validity.ts";
import { measureEif } from "./measure-eif.ts";
import type { Pcrs } from "./measurements.ts";

export interface EifReadOptions {
  readonly signal?: AbortSignal | undefined;
  /** For the dates of the certificate; now unless told. */
  readonly at?: Date;
}

export interface EifDescription {
  readonly version: number;
  readonly architecture: EifArchitecture;
  readonly sizeBytes: number;
  /** Of the file. */
  readonly sha256: string;
  readonly crc32: number;
  /** Nothing reads these two. Text, because they may be of any size. */
  readonly defaultMemoryBytes: string;
  readonly defaultCpus: string;
  /** In the order of the file. */
  readonly sections: readonly EifSection[];
  /** Without NUL bytes at its end; they are measured all the same. */
  readonly commandLine: string;
  /** null in version 3. */
  readonly metadata: EifMetadata | null;
  readonly pcrs: Pcrs;
  readonly signature: CheckedSignature | null;
  /** One sentence each. */
  readonly warnings: readonly string[];
}

/** @throws E_EIF_FILE, E_EIF_INVALID, E_EIF_VERSION, E_EIF_CRC, E_EIF_METADATA, E_EIF_SIGNATURE, E_EIF_TOO_LARGE, the reason of the signal */
export async function readEif(path: string, options: EifReadOptions = {}): Promise<EifDescription> {
  const { signal, at = new Date() } = options;
  await using file = await openFile(path);
  const before = await file.stat({ bigint: true });
  const sizeBytes = checkFileSize(before.size);
  const header = decodeEifHeader(await readBytes(file, 0, Math.min(HEADER_BYTES, sizeBytes)));
  const sections = await readSections(file, header, sizeBytes);
  const gaps = checkPlaces(sections, sizeBytes);
  checkSections(sections, header.version);
  const { sha256, crc32, pcrs, content } = await measureEif(file, { sections, sizeBytes, signal });
  if (crc32 !== header.crc32)
    throw new KitError("E_EIF_CRC", `the header says ${hex(header.crc32)}, the content has ${hex(crc32)}`);
  const after = await file.stat({ bigint: true });
  if (after.mtimeNs !== before.mtimeNs || after.size !== before.size)
    throw invalid("it changed while it was read");
  const metadata = content.get("metadata");
  const signature = content.get("signature");
  const checked = signature === undefined ? null : checkSignature(signature, { pcr0: pcrs.PCR0, at });
  const commandLine = decodeCommandLine(content.get("commandLine") ?? Buffer.alloc(0));
  return {
    version: header.version,
    architecture: header.architecture,
    sizeBytes,
    sha256,
    crc32,
    defaultMemoryBytes: String(header.defaultMemoryBytes),
    defaultCpus: String(header.defaultCpus),
    sections,
    commandLine: commandLine.text,
    metadata: metadata === undefined ? null : decodeEifMetadata(metadata),
    pcrs: checked === null ? pcrs : { ...pcrs, PCR8: checked.pcr8 },
    signature: checked,
    warnings: [...warnOfFlags(header), ...gaps, ...commandLine.warnings],
  };
}

/** @throws E_EIF_NOT_SIGNED, E_EIF_CERTIFICATE_EXPIRED, E_EIF_CERTIFICATE_NOT_YET_VALID */
export function requireValidSignature({ signature }: EifDescription): void {
  if (signature === null) throw new KitError("E_EIF_NOT_SIGNED", "the image is not signed");
  const { state, certificate } = signature;
  if (state === "expired") throw expired(new Date(certificate.notAfter));
  if (state === "not-yet-valid") throw notYetValid(new Date(certificate.notBefore));
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    // A pipe must not keep us waiting for its writer.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if ((await file.stat()).isFile()) return file;
    await file.close();
  } catch (cause) {
    if (!isErrno(cause)) throw cause;
    throw new KitError("E_EIF_FILE", `cannot read ${path}: ${cause.code}`, { cause });
  }
  throw new KitError("E_EIF_FILE", `${path} is no regular file`);
}

function checkFileSize(sizeBytes: bigint): number {
  if (sizeBytes <= MAX_EIF_BYTES) return Number(sizeBytes);
  throw new KitError(
    "E_EIF_TOO_LARGE",
    `the image has ${sizeBytes} bytes; at most ${MAX_EIF_BYTES} are read`,
  );
}

function warnOfFlags({ unknownFlags }: EifHeader): string[] {
  return unknownFlags === 0 ? [] : [`unknown flags 0x${unknownFlags.toString(16)}`];
}

async function readSections(file: FileHandle, header: EifHeader, sizeBytes: number): Promise<EifSection[]> {
  const sections: EifSection[] = [];
  for (const [index, { offset, sizeBytes: tableBytes }] of header.table.entries()) {
    const dataOffset = offset + BigInt(SECTION_HEADER_BYTES);
    const outside = invalid(`section ${index} lies outside of the file`);
    if (offset < BigInt(HEADER_BYTES) || dataOffset > BigInt(sizeBytes)) throw outside;
    const head = decodeSectionHeader(await readBytes(file, Number(offset), SECTION_HEADER_BYTES));
    if (head.sizeBytes !== tableBytes)
      throw invalid(
        `section ${index} (${head.kind}) has ${head.sizeBytes} bytes, the table says ${tableBytes}${reasonOf(head.kind)}`,
      );
    if (dataOffset + tableBytes > BigInt(sizeBytes)) throw outside;
    sections.push({ kind: head.kind, offset: Number(dataOffset), sizeBytes: Number(tableBytes) });
  }
  return sections;
}

/** Why table and section may differ; AWS's own tool leaves that behind when it replaces a signature. */
function reasonOf(kind: SectionKind): string {
  return kind === "signature" ? ": it was re-signed by a tool that does not update the table" : "";
}

/** @returns warnings about gaps */
function checkPlaces(sections: readonly EifSection[], sizeBytes: number): string[] {
  const warnings: string[] = [];
  let end = HEADER_BYTES;
  const ordered = [...sections].sort((a, b) => a.offset - b.offset);
  for (const [index, { kind, offset, sizeBytes: length }] of ordered.entries()) {
    const start = offset - SECTION_HEADER_BYTES;
    if (start < end) throw invalid(`the ${kind} section overlaps what lies before it`);
    if (start > end) warnings.push(`${start - end} bytes before the ${kind} section belong to nothing`);
    if (ordered[index] !== sections[index])
      warnings.push(`the ${kind} section is not in the order of the table`);
    end = offset + length;
  }
  if (end < sizeBytes) throw invalid(`${sizeBytes - end} bytes follow the last section`);
  return warnings;
}

function checkSections(sections: readonly EifSection[], version: number): void {
  const count = (kind: SectionKind): number => sections.filter((section) => section.kind === kind).length;
  for (const kind of ["kernel", "commandLine"] as const)
    if (count(kind) !== 1) throw invalid(`it has ${count(kind)} ${kind} sections`);
  if (count("signature") > 1) throw invalid("it has more than one signature section");
  const metadata = count("metadata");
  if (version >= 4 ? metadata !== 1 : metadata > 0) throw invalid(`it has ${metadata} metadata sections`);
  const kernel = sections.findIndex(({ kind }) => kind === "kernel");
  const ramdisk = sections.findIndex(({ kind }) => kind === "ramdisk");
  if (ramdisk !== -1 && ramdisk < kernel) throw invalid("a ramdisk comes before the kernel");
  for (const { kind, sizeBytes } of sections) checkSize(kind, sizeBytes);
}

function checkSize(kind: SectionKind, sizeBytes: number): void {
  if (kind === "kernel" || kind === "ramdisk") return;
  if (sizeBytes > MAX_SECTION_BYTES[kind])
    throw invalid(`the ${kind} section has ${sizeBytes} bytes; at most ${MAX_SECTION_BYTES[kind]} are read`);
}

function decodeCommandLine(bytes: Buffer): { readonly text: string; readonly warnings: string[] } {
  const text = bytes.subarray(0, bytes.findLastIndex((byte) => byte !== 0) + 1);
  if (text.includes(0)) throw invalid("the command line holds a NUL");
  const count = bytes.length - text.length;
  const warnings = count === 0 ? [] : [`the command line ends in ${count} NUL bytes`];
  try {
    return { text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(text), warnings };
  } catch {
    throw invalid("the command line is not UTF-8");
  }
}

async function readBytes(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  for (let done = 0; done < length;) {
    const { bytesRead } = await file.read(bytes, done, length - done, offset + done);
    if (bytesRead === 0) throw invalid("it became shorter while it was read");
    done += bytesRead;
  }
  return bytes;
}

function hex(sum: number): string {
  return `0x${sum.toString(16).padStart(8, "0")}`;
}

function invalid(why: string): KitError {
  return new KitError("E_EIF_INVALID", `not a valid enclave image: ${why}`);
}
