/**
 * The layout of an enclave image file, written down a second time so that the product's reader and writer have
 * something to be compared with. It shares no code with them.
 *
 *   header      548 bytes, big-endian: ".eif", u16 version, u16 flags, u64 memory, u64 CPUs, u16 reserved,
 *               u16 sections, u64[32] offsets of the section headers, u64[32] sizes of the data,
 *               u32 reserved, u32 CRC-32 of every byte of the file but these four
 *   section     u16 type, u16 flags, u64 size of the data, then the data; the next one follows at once
 *
 * Everything that disagrees with that is an Error; nothing is repaired or skipped.
 */
import type { FileHandle } from "node:fs/promises";

export const HEADER_BYTES = 548;
export const SECTION_HEADER_BYTES = 12;
const SLOTS = 32;
const KNOWN_VERSIONS = [2, 3, 4];
const SIGNATURE_LIMIT_BYTES = 32_768;

export const SECTION_NAMES = ["invalid", "kernel", "cmdline", "ramdisk", "signature", "metadata"] as const;
export type SectionType = Exclude<(typeof SECTION_NAMES)[number], "invalid">;

export interface ImageHeader {
  readonly version: number;
  readonly flags: number;
  readonly sectionCount: number;
  readonly offsets: readonly number[];
  readonly sizes: readonly number[];
  readonly crc32: number;
}

/** One section; `offset` is where its 12-byte header starts, `dataOffset` where its `sizeBytes` of data start. */
export interface Section {
  readonly type: SectionType;
  readonly offset: number;
  readonly dataOffset: number;
  readonly sizeBytes: number;
}

export async function readExactly(file: FileHandle, offset: number, sizeBytes: number): Promise<Buffer> {
  const bytes = Buffer.alloc(sizeBytes);
  let filled = 0;
  while (filled < sizeBytes) {
    const { bytesRead } = await file.read(bytes, filled, sizeBytes - filled, offset + filled);
    if (bytesRead === 0)
      throw new Error(`the file ends at ${offset + filled}, inside ${sizeBytes} bytes from ${offset}`);
    filled += bytesRead;
  }
  return bytes;
}

export async function readHeader(file: FileHandle): Promise<ImageHeader> {
  const bytes = await readExactly(file, 0, HEADER_BYTES);
  const magic = bytes.subarray(0, 4).toString("hex");
  if (magic !== "2e656966") throw new Error(`the magic is ${magic}, not 2e656966`);
  const version = bytes.readUInt16BE(0x004);
  if (!KNOWN_VERSIONS.includes(version))
    throw new Error(`version ${version} is not one of ${KNOWN_VERSIONS.join(", ")}`);
  const flags = bytes.readUInt16BE(0x006);
  if (flags > 1) throw new Error(`flags ${flags} have bits besides the architecture`);
  const sectionCount = bytes.readUInt16BE(0x01a);
  if (sectionCount < 2 || sectionCount > SLOTS)
    throw new Error(`${sectionCount} sections, not 2 to ${SLOTS}`);
  if (bytes.readUInt16BE(0x018) !== 0 || bytes.readUInt32BE(0x21c) !== 0)
    throw new Error("a reserved field is not zero");
  const offsets = readTable(bytes, 0x01c, sectionCount);
  const sizes = readTable(bytes, 0x11c, sectionCount);
  return { version, flags, sectionCount, offsets, sizes, crc32: bytes.readUInt32BE(0x220) };
}

function readTable(bytes: Buffer, start: number, used: number): number[] {
  const values = Array.from({ length: SLOTS }, (_, slot) => Number(bytes.readBigUInt64BE(start + 8 * slot)));
  const stray = values.findIndex((value, slot) => slot >= used && value !== 0);
  if (stray >= 0)
    throw new Error(`slot ${stray} of the table at ${start} is used, but there are ${used} sections`);
  return values.slice(0, used);
}

/** Walks from byte 548 and wants the table to say the same at every step, up to the last byte of the file. */
export async function readSections(file: FileHandle, header: ImageHeader): Promise<Section[]> {
  const { size: fileBytes } = await file.stat();
  const sections: Section[] = [];
  let position = HEADER_BYTES;
  for (let slot = 0; slot < header.sectionCount; slot++) {
    if (header.offsets[slot] !== position) {
      throw new Error(`section ${slot} starts at ${position}, the table says ${header.offsets[slot]}`);
    }
    const section = await readSectionHeader(file, position);
    if (header.sizes[slot] !== section.sizeBytes) {
      throw new Error(
        `section ${slot} says ${section.sizeBytes} bytes, the table says ${header.sizes[slot]}`,
      );
    }
    position = section.dataOffset + section.sizeBytes;
    if (position > fileBytes)
      throw new Error(`section ${slot} ends at ${position}, the file at ${fileBytes}`);
    sections.push(section);
  }
  if (position !== fileBytes) throw new Error(`${fileBytes - position} bytes follow the last section`);
  checkCounts(sections, header.version);
  return sections;
}

async function readSectionHeader(file: FileHandle, offset: number): Promise<Section> {
  const bytes = await readExactly(file, offset, SECTION_HEADER_BYTES);
  const number = bytes.readUInt16BE(0);
  const type = SECTION_NAMES[number];
  if (type === undefined || type === "invalid")
    throw new Error(`section type ${number} at ${offset} does not exist`);
  if (bytes.readUInt16BE(2) !== 0) throw new Error(`the section header at ${offset} has flags`);
  return {
    type,
    offset,
    dataOffset: offset + SECTION_HEADER_BYTES,
    sizeBytes: Number(bytes.readBigUInt64BE(4)),
  };
}

function checkCounts(sections: readonly Section[], version: number): void {
  const types = sections.map((section) => section.type);
  const count = (type: SectionType): number => types.filter((each) => each === type).length;
  if (count("kernel") !== 1 || count("cmdline") !== 1)
    throw new Error("not exactly one kernel and one command line");
  if (count("metadata") !== (version >= 4 ? 1 : 0))
    throw new Error(`${count("metadata")} metadata sections in v${version}`);
  if (count("signature") > (version >= 3 ? 1 : 0))
    throw new Error(`${count("signature")} signatures in v${version}`);
  const firstRamdisk = types.indexOf("ramdisk");
  if (firstRamdisk >= 0 && firstRamdisk < types.indexOf("kernel"))
    throw new Error("a ramdisk comes before the kernel");
  const signature = sections.find((section) => section.type === "signature");
  if (signature !== undefined && signature.sizeBytes > SIGNATURE_LIMIT_BYTES)
    throw new Error("the signature is too long");
}
