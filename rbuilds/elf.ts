/**
 * The part of ELF that a dynamic loader reads first: machine, interpreter, SONAME and NEEDED. 64-bit little-endian
 * only, as both architectures of the toolkit are. Layouts from the System V ABI, chapters 4 and 5.
 *
 *   file header 64 bytes   e_ident[16] e_type:2 e_machine:2 ... e_phoff@32:8 ... e_phentsize@54:2 e_phnum@56:2
 *   program header 56      p_type:4 p_flags:4 p_offset:8 p_vaddr:8 p_paddr:8 p_filesz:8 p_memsz:8 p_align:8
 *   dynamic entry 16       d_tag:8 d_val:8, up to DT_NULL
 *
 * DT_STRTAB is an address; it becomes a place in the file through the PT_LOAD that covers it.
 */
import { open } from "node:fs/promises";
import { KitError } from "../core/errors.ts";

export const ELF_MACHINE = { amd64: 62, arm64: 183 } as const;

const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const MAX_PROGRAM_HEADERS = 128;
const MAX_DYNAMIC_BYTES = 64 * 1024;
/** Longest name of a library or interpreter. */
const MAX_NAME_BYTES = 1024;
const MAX_NEEDED = 1024;

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const DT_NEEDED = 1n;
const DT_STRTAB = 5n;
const DT_SONAME = 14n;

export interface ElfInfo {
  /** e_machine. */
  readonly machine: number;
  readonly kind: "executable" | "shared" | "other";
  /** True if it has a dynamic section. */
  readonly dynamic: boolean;
  readonly interpreter: string | undefined;
  readonly soname: string | undefined;
  readonly needed: readonly string[];
}

/** Up to `length` bytes from `offset`; fewer only at the end of the file. */
export type ReadAt = (offset: number, length: number) => Promise<Uint8Array>;

/**
 * Reads the file at `path`.
 * @returns undefined if it is no 64-bit little-endian ELF file (a script, a linker script, a 32-bit library).
 * @throws E_IMAGE_ELF if it says it is one and is malformed.
 */
export async function readElfFile(path: string): Promise<ElfInfo | undefined> {
  await using file = await open(path, "r");
  return await readElf(async (offset, length) => {
    const { buffer, bytesRead } = await file.read(new Uint8Array(length), 0, length, offset);
    return buffer.subarray(0, bytesRead);
  });
}

/** As readElfFile, from any source of bytes. @throws E_IMAGE_ELF */
export async function readElf(readAt: ReadAt): Promise<ElfInfo | undefined> {
  const header = await readAt(0, HEADER_BYTES);
  const isElf64 = startsWith(header, [0x7f, 0x45, 0x4c, 0x46, 2, 1]);
  if (!isElf64) return undefined;
  const view = viewOf(header, HEADER_BYTES);
  const segments = await readSegments(readAt, view);
  const type = view.getUint16(16, true);
  return {
    machine: view.getUint16(18, true),
    kind: type === 2 ? "executable" : type === 3 ? "shared" : "other",
    interpreter: await readInterpreter(readAt, segments),
    ...(await readDynamic(readAt, segments)),
  };
}

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly fileBytes: number;
}

async function readSegments(readAt: ReadAt, header: DataView): Promise<readonly Segment[]> {
  const offset = safe(header.getBigUint64(32, true));
  const count = header.getUint16(56, true);
  if (count === 0) return [];
  if (header.getUint16(54, true) !== PROGRAM_HEADER_BYTES || count > MAX_PROGRAM_HEADERS) {
    throw malformed("its program headers have an impossible size or number");
  }
  const view = viewOf(await readAt(offset, count * PROGRAM_HEADER_BYTES), count * PROGRAM_HEADER_BYTES);
  return Array.from({ length: count }, (_, index) => {
    const at = index * PROGRAM_HEADER_BYTES;
    return {
      type: view.getUint32(at, true),
      offset: safe(view.getBigUint64(at + 8, true)),
      address: safe(view.getBigUint64(at + 16, true)),
      fileBytes: safe(view.getBigUint64(at + 32, true)),
    };
  });
}

async function readInterpreter(readAt: ReadAt, segments: readonly Segment[]): Promise<string | undefined> {
  const segment = segments.find((each) => each.type === PT_INTERP);
  return segment === undefined ? undefined : readName(readAt, segment.offset);
}

async function readDynamic(
  readAt: ReadAt,
  segments: readonly Segment[],
): Promise<Pick<ElfInfo, "dynamic" | "soname" | "needed">> {
  const segment = segments.find((each) => each.type === PT_DYNAMIC);
  if (segment === undefined) return { dynamic: false, soname: undefined, needed: [] };
  const entries = await readDynamicEntries(readAt, segment);
  const names = entries.filter(([tag]) => tag === DT_NEEDED || tag === DT_SONAME);
  if (names.length === 0) return { dynamic: true, soname: undefined, needed: [] };
  if (names.length > MAX_NEEDED) throw malformed("it needs more than 1024 libraries");
  const table = entries.find(([tag]) => tag === DT_STRTAB);
  if (table === undefined) throw malformed("its dynamic section has no string table");
  const strings = fileOffset(segments, safe(table[1]));
  const nameOf = (value: bigint): Promise<string> => readName(readAt, strings + safe(value));
  const soname = names.find(([tag]) => tag === DT_SONAME);
  const needed: string[] = [];
  for (const [tag, value] of names) if (tag === DT_NEEDED) needed.push(await nameOf(value));
  return { dynamic: true, soname: soname === undefined ? undefined : await nameOf(soname[1]), needed };
}

async function readDynamicEntries(readAt: ReadAt, segment: Segment): Promise<[bigint, bigint][]> {
  if (segment.fileBytes > MAX_DYNAMIC_BYTES) throw malformed("its dynamic section is larger than 64 KiB");
  const bytes = await readAt(segment.offset, segment.fileBytes);
  const view = viewOf(bytes, segment.fileBytes);
  const entries: [bigint, bigint][] = [];
  for (let at = 0; at + 16 <= bytes.length; at += 16) {
    const tag = view.getBigUint64(at, true);
    if (tag === 0n) break;
    entries.push([tag, view.getBigUint64(at + 8, true)]);
  }
  return entries;
}

function fileOffset(segments: readonly Segment[], address: number): number {
  for (const segment of segments) {
    const inside = address >= segment.address && address < segment.address + segment.fileBytes;
    if (segment.type === PT_LOAD && inside) return address - segment.address + segment.offset;
  }
  throw malformed("its string table lies in no segment");
}

async function readName(readAt: ReadAt, offset: number): Promise<string> {
  const bytes = await readAt(offset, MAX_NAME_BYTES);
  const end = bytes.indexOf(0);
  if (end <= 0) throw malformed("a name in it is empty, too long or cut off");
  return Buffer.from(bytes.subarray(0, end)).toString("latin1");
}

function startsWith(bytes: Uint8Array, prefix: readonly number[]): boolean {
  return prefix.every((byte, index) => bytes[index] === byte);
}

function viewOf(bytes: Uint8Array, length: number): DataView {
  if (bytes.length < length) throw malformed("it is cut off");
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Offsets beyond 2^48 are no file of ours, and sums of them stay exact. */
function safe(value: bigint): number {
  if (value >= 1n << 48n) throw malformed("an offset in it is beyond any file");
  return Number(value);
}

function malformed(reason: string): KitError {
  return new KitError("E_IMAGE_ELF", `not a well-formed ELF file: ${reason}`);
}
