/**
 * Enclave image files (EIF), as the Nitro hypervisor and QEMU read them. All numbers are big-endian.
 *
 *   header, 548 bytes
 *     0x000  4       magic ".eif"
 *     0x004  u16     version: 3 knows signatures, 4 knows metadata
 *     0x006  u16     flags: bit 0 is the architecture, 0 x86-64, 1 AArch64; others are 0
 *     0x008  u64     default memory in bytes; nothing reads it
 *     0x010  u64     default number of CPUs; nothing reads it
 *     0x01a  u16     number of sections, 2 to 32
 *     0x01c  u64[32] offset in the file of each section's header
 *     0x11c  u64[32] size of each section's data
 *     0x220  u32     CRC-32 of the file without these four bytes
 *   sections, one after another: u16 type, u16 flags (0), u64 size of the data, data
 *
 * Written in this order: kernel, command line, metadata, ramdisks, signature.
 *
 * Measurements are SHA-384(48 zero bytes || SHA-384(content)) over data of sections alone:
 *   PCR0 kernel, command line, all ramdisks;  PCR1 kernel, command line, first ramdisk;  PCR2 the other ramdisks;
 *   PCR8 the signing certificate in DER.
 */
export const EIF_MAGIC = ".eif";
export const EIF_VERSION = 4;
/** Oldest that is read; versions below had no signature and were given up years ago. */
export const MIN_EIF_VERSION = 3;

export const HEADER_BYTES = 548;
export const SECTION_HEADER_BYTES = 12;
export const MAX_SECTIONS = 32;

export const HEADER = {
  magic: 0x000,
  version: 0x004,
  flags: 0x006,
  defaultMemory: 0x008,
  defaultCpus: 0x010,
  reserved: 0x018,
  sectionCount: 0x01a,
  offsets: 0x01c,
  sizes: 0x11c,
  reserved2: 0x21c,
  crc32: 0x220,
} as const;

/** The one bit of the header's flags that is known. */
export const AARCH64_FLAG = 1;

/** What AWS's writer puts there. */
export const DEFAULT_MEMORY_BYTES = 1024 ** 3;
export const DEFAULT_CPUS = 2;

/** Section types by name; 0 and everything else is invalid. */
export const SECTION_TYPE = { kernel: 1, commandLine: 2, ramdisk: 3, signature: 4, metadata: 5 } as const;
export type SectionKind = keyof typeof SECTION_TYPE;

export type EifArchitecture = "x86_64" | "aarch64";

/** Of a whole image. Nitro wants four times its size as memory; a sparse file may claim to be of any size. */
export const MAX_EIF_BYTES = 64 * 1024 ** 3;

/** Of sections that are read as a whole. */
export const MAX_SECTION_BYTES = {
  commandLine: 64 * 1024,
  /** AWS's own limit. */
  signature: 32_768,
  metadata: 16 * 1024 * 1024,
} as const;

export interface EifSection {
  readonly kind: SectionKind;
  /** Of the data. */
  readonly offset: number;
  readonly sizeBytes: number;
}
