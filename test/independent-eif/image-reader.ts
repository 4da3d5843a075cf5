/** Reads an enclave image file and computes its registers, by its own means (see image-layout.ts). */
import { createHash } from "node:crypto";
import { open, type FileHandle } from "node:fs/promises";
import { crc32 } from "node:zlib";

import {
  HEADER_BYTES,
  readExactly,
  readHeader,
  readSections,
  type Section,
  type SectionType,
} from "./image-layout.ts";
import { readSignatureSection } from "./signature-section.ts";

export interface IndependentImage {
  readonly version: number;
  readonly flags: number;
  readonly architecture: "x86_64" | "aarch64";
  /** `offset` is that of the 12-byte section header, as in the header's table. */
  readonly sections: readonly {
    readonly type: SectionType;
    readonly offset: number;
    readonly sizeBytes: number;
  }[];
  readonly commandLine: string;
  /** The parsed JSON, and `null` before version 4. */
  readonly metadata: unknown;
  readonly metadataText: string;
  /** Where the data of each ramdisk lies, without its section header. */
  readonly ramdisks: readonly { readonly offset: number; readonly sizeBytes: number }[];
  /** Always true: a wrong CRC is an Error. */
  readonly crcIsRight: true;
  readonly crc32: number;
  /** Lower-case hex; PCR8 only when there is a signature. */
  readonly pcrs: {
    readonly PCR0: string;
    readonly PCR1: string;
    readonly PCR2: string;
    readonly PCR8?: string;
  };
  readonly signature?: {
    readonly certificatePem: string;
    readonly algorithm: string;
    readonly payloadPcr0: string;
    /** The certificate's key signed it, and it signed this image's PCR0. Dates are not looked at. */
    readonly verifies: boolean;
  };
}

const CHUNK_BYTES = 1 << 20;
const TEXT_LIMIT_BYTES = 1 << 24;

/** @throws Error when anything in the file disagrees with the format or with itself. */
export async function readIndependently(path: string): Promise<IndependentImage> {
  await using file = await open(path);
  const header = await readHeader(file);
  const sections = await readSections(file, header);
  const sum = await checksum(file);
  if (sum !== header.crc32) throw new Error(`the CRC-32 is ${sum}, the header says ${header.crc32}`);
  const ramdisks = sections.filter((section) => section.type === "ramdisk");
  const measured = await measure(file, sections, ramdisks);
  const commandLine = await readText(file, sections, "cmdline");
  if (commandLine.includes("\0")) throw new Error("the command line has a NUL byte");
  const metadataText = header.version >= 4 ? await readText(file, sections, "metadata") : "null";
  const signed = await readSignature(file, sections, measured.PCR0);
  return {
    version: header.version,
    flags: header.flags,
    architecture: header.flags === 1 ? "aarch64" : "x86_64",
    sections: sections.map(({ type, offset, sizeBytes }) => ({ type, offset, sizeBytes })),
    commandLine,
    metadata: readMetadata(metadataText, header.version),
    metadataText,
    ramdisks: ramdisks.map(({ dataOffset, sizeBytes }) => ({ offset: dataOffset, sizeBytes })),
    crcIsRight: true,
    crc32: header.crc32,
    pcrs: { ...measured, ...signed?.pcrs },
    ...(signed === undefined ? {} : { signature: signed.signature }),
  };
}

async function* chunks(file: FileHandle, offset: number, sizeBytes: number): AsyncGenerator<Buffer> {
  for (let done = 0; done < sizeBytes; done += CHUNK_BYTES) {
    yield await readExactly(file, offset + done, Math.min(CHUNK_BYTES, sizeBytes - done));
  }
}

async function checksum(file: FileHandle): Promise<number> {
  const { size } = await file.stat();
  let sum = crc32(await readExactly(file, 0, HEADER_BYTES - 4));
  for await (const chunk of chunks(file, HEADER_BYTES, size - HEADER_BYTES)) sum = crc32(chunk, sum);
  return sum;
}

async function measure(file: FileHandle, sections: readonly Section[], ramdisks: readonly Section[]) {
  const base = (["kernel", "cmdline"] as const).map((type) => findSection(sections, type));
  return {
    PCR0: await register(file, [...base, ...ramdisks]),
    PCR1: await register(file, [...base, ...ramdisks.slice(0, 1)]),
    PCR2: await register(file, ramdisks.slice(1)),
  };
}

async function register(file: FileHandle, sections: readonly Section[]): Promise<string> {
  const content = createHash("sha384");
  for (const { dataOffset, sizeBytes } of sections) {
    for await (const chunk of chunks(file, dataOffset, sizeBytes)) content.update(chunk);
  }
  return extend(content.digest());
}

/** A register of 48 zero bytes, extended once. */
function extend(contentHash: Buffer): string {
  return createHash("sha384").update(Buffer.alloc(48)).update(contentHash).digest("hex");
}

async function readSignature(file: FileHandle, sections: readonly Section[], pcr0: string) {
  const section = sections.find(({ type }) => type === "signature");
  if (section === undefined) return undefined;
  const found = readSignatureSection(await readExactly(file, section.dataOffset, section.sizeBytes));
  const { certificatePem, algorithm, payloadPcr0 } = found;
  const verifies = found.coseVerifies && payloadPcr0 === pcr0;
  const pcr8 = extend(createHash("sha384").update(found.certificateDer).digest());
  return { pcrs: { PCR8: pcr8 }, signature: { certificatePem, algorithm, payloadPcr0, verifies } };
}

const METADATA_KEYS = "ImageName,ImageVersion,BuildMetadata,DockerInfo,CustomMetadata";
const BUILD_KEYS = "BuildTime,BuildTool,BuildToolVersion,OperatingSystem,KernelVersion";

function readMetadata(text: string, version: number): unknown {
  const value: unknown = JSON.parse(text);
  if (version < 4) return value;
  const keys = keyList(value);
  if (keys !== METADATA_KEYS) throw new Error(`the metadata has the keys ${keys}`);
  const { ImageName, ImageVersion, BuildMetadata } = value as Record<string, unknown>;
  if (keyList(BuildMetadata) !== BUILD_KEYS)
    throw new Error(`BuildMetadata has the keys ${keyList(BuildMetadata)}`);
  const texts = [ImageName, ImageVersion, ...Object.values(BuildMetadata as object)];
  if (texts.some((each) => typeof each !== "string"))
    throw new Error("a metadata value that must be text is not");
  return value;
}

function keyList(value: unknown): string {
  return typeof value === "object" && value !== null ? Object.keys(value).join() : String(value);
}

async function readText(file: FileHandle, sections: readonly Section[], type: SectionType): Promise<string> {
  const { dataOffset, sizeBytes } = findSection(sections, type);
  if (sizeBytes > TEXT_LIMIT_BYTES) throw new Error(`the ${type} section has ${sizeBytes} bytes`);
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
    await readExactly(file, dataOffset, sizeBytes),
  );
}

function findSection(sections: readonly Section[], type: SectionType): Section {
  const found = sections.find((section) => section.type === type);
  if (found === undefined) throw new Error(`there is no ${type} section`);
  return found;
}
