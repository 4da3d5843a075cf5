import { KitError } from "../../core/errors.ts";
import {
  AARCH64_FLAG,
  DEFAULT_CPUS,
  DEFAULT_MEMORY_BYTES,
  EIF_MAGIC,
  EIF_VERSION,
  type EifArchitecture,
  HEADER,
  HEADER_BYTES,
  MAX_SECTIONS,
  MIN_EIF_VERSION,
  SECTION_HEADER_BYTES,
  SECTION_TYPE,
  type SectionKind,
} from "./eif-layout.ts";

export interface EifHeader {
  readonly version: number;
  readonly architecture: EifArchitecture;
  /** Bits besides the architecture, where they are in the field; 0 in every image of AWS's tools. */
  readonly unknownFlags: number;
  /** As in the file; nothing reads them. */
  readonly defaultMemoryBytes: bigint;
  readonly defaultCpus: bigint;
  /** In the order of the table: where each section's header lies, and the size of its data. */
  readonly table: readonly { readonly offset: bigint; readonly sizeBytes: bigint }[];
  readonly crc32: number;
}

export interface HeaderInit {
  readonly architecture: EifArchitecture;
  readonly table: readonly { readonly offset: number; readonly sizeBytes: number }[];
  readonly crc32: number;
}

/** Version 4 with AWS's defaults. */
export function encodeEifHeader({ architecture, table, crc32 }: HeaderInit): Buffer {
  if (table.length > MAX_SECTIONS) throw new RangeError(`an EIF has at most ${MAX_SECTIONS} sections`);
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.write(EIF_MAGIC, HEADER.magic, "latin1");
  bytes.writeUInt16BE(EIF_VERSION, HEADER.version);
  bytes.writeUInt16BE(architecture === "aarch64" ? AARCH64_FLAG : 0, HEADER.flags);
  bytes.writeBigUInt64BE(BigInt(DEFAULT_MEMORY_BYTES), HEADER.defaultMemory);
  bytes.writeBigUInt64BE(BigInt(DEFAULT_CPUS), HEADER.defaultCpus);
  bytes.writeUInt16BE(table.length, HEADER.sectionCount);
  for (const [index, { offset, sizeBytes }] of table.entries()) {
    bytes.writeBigUInt64BE(BigInt(offset), HEADER.offsets + 8 * index);
    bytes.writeBigUInt64BE(BigInt(sizeBytes), HEADER.sizes + 8 * index);
  }
  bytes.writeUInt32BE(crc32, HEADER.crc32);
  return bytes;
}

/** @throws E_EIF_INVALID, E_EIF_VERSION */
export function decodeEifHeader(bytes: Uint8Array): EifHeader {
  if (bytes.length < HEADER_BYTES) throw invalid(`it has ${bytes.length} bytes; its header alone has 548`);
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  if (view.toString("latin1", HEADER.magic, 4) !== EIF_MAGIC) throw invalid("it does not begin with .eif");
  const version = view.readUInt16BE(HEADER.version);
  if (version < MIN_EIF_VERSION || version > EIF_VERSION)
    throw new KitError("E_EIF_VERSION", `the image has version ${version}; 3 and 4 are known`);
  const flags = view.readUInt16BE(HEADER.flags);
  const count = view.readUInt16BE(HEADER.sectionCount);
  if (count < 2 || count > MAX_SECTIONS)
    throw invalid(`${count} sections; 2 to ${MAX_SECTIONS} are possible`);
  if (view.readUInt16BE(HEADER.reserved) !== 0 || view.readUInt32BE(HEADER.reserved2) !== 0)
    throw invalid("reserved bytes are not zero");
  checkUnusedSlots(view, count);
  return {
    version,
    architecture: (flags & AARCH64_FLAG) === 0 ? "x86_64" : "aarch64",
    unknownFlags: flags & ~AARCH64_FLAG,
    defaultMemoryBytes: view.readBigUInt64BE(HEADER.defaultMemory),
    defaultCpus: view.readBigUInt64BE(HEADER.defaultCpus),
    table: Array.from({ length: count }, (_, index) => ({
      offset: view.readBigUInt64BE(HEADER.offsets + 8 * index),
      sizeBytes: view.readBigUInt64BE(HEADER.sizes + 8 * index),
    })),
    crc32: view.readUInt32BE(HEADER.crc32),
  };
}

function checkUnusedSlots(view: Buffer, count: number): void {
  for (const table of [HEADER.offsets, HEADER.sizes])
    for (let slot = count; slot < MAX_SECTIONS; slot++)
      if (view.readBigUInt64BE(table + 8 * slot) !== 0n)
        throw invalid(`slot ${slot} of the table is used, and there are ${count} sections`);
}

export function encodeSectionHeader(kind: SectionKind, sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(SECTION_HEADER_BYTES);
  bytes.writeUInt16BE(SECTION_TYPE[kind], 0);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 4);
  return bytes;
}

/** @throws E_EIF_INVALID */
export function decodeSectionHeader(bytes: Buffer): {
  readonly kind: SectionKind;
  readonly sizeBytes: bigint;
} {
  const type = bytes.readUInt16BE(0);
  const kind = KINDS.get(type);
  if (kind === undefined) throw invalid(`a section of unknown type ${type}`);
  if (bytes.readUInt16BE(2) !== 0) throw invalid(`flags of a ${kind} section are not zero`);
  return { kind, sizeBytes: bytes.readBigUInt64BE(4) };
}

const KINDS: ReadonlyMap<number, SectionKind> = new Map([
  [SECTION_TYPE.kernel, "kernel"],
  [SECTION_TYPE.commandLine, "commandLine"],
  [SECTION_TYPE.ramdisk, "ramdisk"],
  [SECTION_TYPE.signature, "signature"],
  [SECTION_TYPE.metadata, "metadata"],
]);

function invalid(why: string): KitError {
  return new KitError("E_EIF_INVALID", `not a valid enclave image: ${why}`);
}
