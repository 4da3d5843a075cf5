/** Where everything of an image goes, known before a byte of it is read. */
import { crc32 } from "node:zlib";

import { KitError } from "../../core/errors.ts";
import { combineCrc32 } from "../../wire/eif/crc32-combine.ts";
import { encodeEifHeader, encodeSectionHeader } from "../../wire/eif/eif-header.ts";
import {
  type EifArchitecture,
  HEADER,
  HEADER_BYTES,
  MAX_EIF_BYTES,
  MAX_SECTION_BYTES,
  MAX_SECTIONS,
  SECTION_HEADER_BYTES,
  type SectionKind,
} from "../../wire/eif/eif-layout.ts";
import type { PreparedFile } from "../prepared-file.ts";
import type { ImagePiece } from "./image-blocks.ts";

export interface PlannedSection {
  readonly kind: SectionKind;
  /** In order: bytes or whole files. */
  readonly parts: readonly (Uint8Array | PreparedFile)[];
  readonly sizeBytes: number;
  /** Of the section's header. */
  readonly offset: number;
  readonly header: Buffer;
}

export interface SectionInit {
  readonly kind: SectionKind;
  readonly parts: readonly (Uint8Array | PreparedFile)[];
}

/** The sections one after another, behind the header. @throws E_EIF_TOO_LARGE */
export function planSections(sections: readonly SectionInit[]): PlannedSection[] {
  if (sections.length > MAX_SECTIONS)
    throw new KitError(
      "E_EIF_TOO_LARGE",
      `the image would have ${sections.length} sections; ${MAX_SECTIONS} are possible`,
    );
  let offset = HEADER_BYTES;
  const planned = sections.map(({ kind, parts }) => {
    const sizeBytes = parts.reduce((sum, part) => sum + sizeOf(part), 0);
    checkSize(kind, sizeBytes);
    const section = { kind, parts, sizeBytes, offset, header: encodeSectionHeader(kind, sizeBytes) };
    offset += SECTION_HEADER_BYTES + sizeBytes;
    return section;
  });
  if (offset > MAX_EIF_BYTES)
    throw new KitError(
      "E_EIF_TOO_LARGE",
      `the image would have ${offset} bytes; at most ${MAX_EIF_BYTES} are read`,
    );
  return planned;
}

function checkSize(kind: SectionKind, sizeBytes: number): void {
  const limit = kind === "kernel" || kind === "ramdisk" ? Number.MAX_SAFE_INTEGER : MAX_SECTION_BYTES[kind];
  if (sizeBytes > limit)
    throw new KitError(
      "E_EIF_TOO_LARGE",
      `the ${kind} section has ${sizeBytes} bytes; at most ${limit} are possible`,
    );
}

/** The header with the checksum of the whole file, combined from the checksums of the parts. */
export function planHeader(architecture: EifArchitecture, sections: readonly PlannedSection[]): Buffer {
  const init = { architecture, table: sections.map(({ offset, sizeBytes }) => ({ offset, sizeBytes })) };
  const unsummed = encodeEifHeader({ ...init, crc32: 0 }).subarray(0, HEADER.crc32);
  let sum = crc32(unsummed);
  for (const { header, parts } of sections) {
    sum = crc32(header, sum);
    for (const part of parts)
      sum = part instanceof Uint8Array ? crc32(part, sum) : combineCrc32(sum, part.crc32, part.sizeBytes);
  }
  return encodeEifHeader({ ...init, crc32: sum });
}

export function fileSizeOf(sections: readonly PlannedSection[]): number {
  return sections.reduce((sum, section) => sum + SECTION_HEADER_BYTES + section.sizeBytes, HEADER_BYTES);
}

function sizeOf(part: Uint8Array | PreparedFile): number {
  return part instanceof Uint8Array ? part.length : part.sizeBytes;
}

/** The file from its first byte to its last. */
export function piecesOf(header: Buffer, sections: readonly PlannedSection[]): ImagePiece[] {
  const pieces: ImagePiece[] = [{ source: header, measuredBy: [] }];
  const firstRamdisk = sections.find(({ kind }) => kind === "ramdisk");
  for (const section of sections) {
    const measuredBy = registersOf(section.kind, section === firstRamdisk);
    pieces.push({ source: section.header, measuredBy: [] });
    for (const source of section.parts) pieces.push({ source, measuredBy });
  }
  return pieces;
}

function registersOf(kind: SectionKind, isFirstRamdisk: boolean): ImagePiece["measuredBy"] {
  if (kind === "metadata" || kind === "signature") return [];
  return kind === "ramdisk" && !isFirstRamdisk ? ["PCR0", "PCR2"] : ["PCR0"];
}

/** @throws E_EIF_COMMAND_LINE */
export function encodeCommandLine(text: string): Buffer {
  if (text.includes("\0") || !text.isWellFormed())
    throw new KitError(
      "E_EIF_COMMAND_LINE",
      `the kernel's command line is no text: ${JSON.stringify(text.slice(0, 80))}`,
    );
  return Buffer.from(text);
}
