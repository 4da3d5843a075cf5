/**
 * /etc/ld.so.cache in glibc's new format (sysdeps/generic/dl-cache.h), little-endian, without extensions:
 *
 *   0   "glibc-ld.so.cache" "1.1"       20 bytes, no NUL
 *   20  nlibs:4  stringsBytes:4  flags:1 (2 = little-endian)  zero:3  extensionOffset:4 (0 = none)  zero:12
 *   48  nlibs entries of 24 bytes: flags:4 key:4 value:4 osVersion:4 (0) hwcap:8 (0)
 *   ..  strings, each with its NUL; key and value count from the start of the file
 *
 * The loader searches by bisection, so the entries stand in descending order of glibc's own comparison, in which runs
 * of digits count as numbers (`libx.so.10` after `libx.so.9`).
 */
import { KitError } from "../core/errors.ts";
import type { DebianArchitecture } from "./locked-package.ts";

/** FLAG_ELF_LIBC6 with the ABI bits of sysdeps' ldconfig.h. */
export const LIBRARY_FLAGS: Readonly<Record<DebianArchitecture, number>> = { amd64: 0x0303, arm64: 0x0a03 };

export interface CacheEntry {
  /** SONAME. */
  readonly name: string;
  /** Absolute path. */
  readonly path: string;
}

const MAGIC = "glibc-ld.so.cache1.1";
const HEADER_BYTES = 48;
const ENTRY_BYTES = 24;
const LITTLE_ENDIAN = 2;
const MAX_ENTRIES = 65_536;
const MAX_CACHE_BYTES = 16 * 1024 * 1024;

/** Entries of equal name keep the order given: the loader takes the first. */
export function encodeLdSoCache(
  entries: readonly CacheEntry[],
  architecture: DebianArchitecture,
): Uint8Array {
  const sorted = entries.toSorted((a, b) => compareLibraryNames(b.name, a.name));
  const strings = createStringTable(HEADER_BYTES + sorted.length * ENTRY_BYTES);
  const table = Buffer.alloc(sorted.length * ENTRY_BYTES);
  for (const [index, entry] of sorted.entries()) {
    const at = index * ENTRY_BYTES;
    table.writeUInt32LE(LIBRARY_FLAGS[architecture], at);
    table.writeUInt32LE(strings.add(entry.name), at + 4);
    table.writeUInt32LE(strings.add(entry.path), at + 8);
  }
  const text = strings.bytes();
  const header = Buffer.alloc(HEADER_BYTES);
  header.write(MAGIC, "latin1");
  header.writeUInt32LE(sorted.length, 20);
  header.writeUInt32LE(text.length, 24);
  header.writeUInt8(LITTLE_ENDIAN, 28);
  return Buffer.concat([header, table, text]);
}

interface StringTable {
  /** Offset of the string in the file. */
  readonly add: (text: string) => number;
  readonly bytes: () => Buffer;
}

function createStringTable(start: number): StringTable {
  const offsets = new Map<string, number>();
  const chunks: Buffer[] = [];
  let end = start;
  const add = (text: string): number => {
    const known = offsets.get(text);
    if (known !== undefined) return known;
    const chunk = Buffer.from(`${text}\0`, "latin1");
    const offset = end;
    offsets.set(text, offset);
    chunks.push(chunk);
    end += chunk.length;
    return offset;
  };
  return { add, bytes: () => Buffer.concat(chunks) };
}

/** @throws E_IMAGE_ELF for anything that encodeLdSoCache would not write. */
export function decodeLdSoCache(bytes: Uint8Array): readonly CacheEntry[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (buffer.length < HEADER_BYTES || buffer.length > MAX_CACHE_BYTES) throw refusal("size");
  if (buffer.toString("latin1", 0, MAGIC.length) !== MAGIC) throw refusal("magic");
  const count = buffer.readUInt32LE(20);
  const end = HEADER_BYTES + count * ENTRY_BYTES + buffer.readUInt32LE(24);
  if (count > MAX_ENTRIES || buffer.readUInt8(28) !== LITTLE_ENDIAN || end !== buffer.length)
    throw refusal("header");
  return Array.from({ length: count }, (_, index) => {
    const at = HEADER_BYTES + index * ENTRY_BYTES;
    return {
      name: stringAt(buffer, buffer.readUInt32LE(at + 4)),
      path: stringAt(buffer, buffer.readUInt32LE(at + 8)),
    };
  });
}

function stringAt(buffer: Buffer, offset: number): string {
  const end = buffer.indexOf(0, offset);
  if (offset < HEADER_BYTES || offset >= buffer.length || end < 0) throw refusal("string");
  return buffer.toString("latin1", offset, end);
}

function refusal(what: string): KitError {
  return new KitError("E_IMAGE_ELF", `not an ld.so.cache of the new format (${what})`);
}

/** glibc's _dl_cache_libcmp (elf/dl-cache.c): below 0, 0 or above 0. */
export function compareLibraryNames(left: string, right: string): number {
  let i = 0;
  let j = 0;
  while (i < left.length) {
    const leftDigits = digitsAt(left, i);
    const rightDigits = digitsAt(right, j);
    if (leftDigits !== "" && rightDigits !== "") {
      const difference = Number(leftDigits) - Number(rightDigits);
      if (difference !== 0) return difference;
      i += leftDigits.length;
      j += rightDigits.length;
    } else if (leftDigits !== "") return 1;
    else if (rightDigits !== "") return -1;
    else if (left[i] !== right[j]) break;
    else {
      i += 1;
      j += 1;
    }
  }
  return (left.charCodeAt(i) || 0) - (right.charCodeAt(j) || 0);
}

function digitsAt(text: string, index: number): string {
  let end = index;
  while (end < text.length && text.charCodeAt(end) >= 0x30 && text.charCodeAt(end) <= 0x39) end += 1;
  return text.slice(index, end);
}
