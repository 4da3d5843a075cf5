/**
 * One 512-byte header of a tar archive.
 *
 *   0 name 100 | 100 mode 8 | 108 uid 8 | 116 gid 8 | 124 size 12 | 136 mtime 12 | 148 checksum 8 | 156 type 1
 *   157 linkname 100 | 257 magic "ustar" | 329 major 8 | 337 minor 8 | 345 prefix 155 (POSIX only)
 *
 * Numbers are octal text, or base 256 with the top bit of the first byte set (GNU). POSIX archives have magic
 * "ustar\0" and a prefix; GNU's have "ustar " and none; the oldest have neither.
 */
import { KitError } from "../core/errors.ts";

export const TAR_BLOCK_BYTES = 512;

export interface TarHeader {
  readonly name: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** The type flag as a character; "0" for the old NUL. */
  readonly type: string;
  readonly linkName: string;
  readonly major: number;
  readonly minor: number;
}

/** @param block exactly 512 bytes. @returns undefined for a block of zeros. @throws E_IMAGE_TAR with `where`. */
export function decodeTarHeader(block: Buffer, where: string): TarHeader | undefined {
  if (block.every((byte) => byte === 0)) return undefined;
  checkSum(block, where);
  const magic = block.toString("latin1", 257, 263);
  const posix = magic === "ustar\0";
  const name = textField(block, 0, 100, where);
  const prefix = posix ? textField(block, 345, 155, where) : "";
  const hasDevice = magic.startsWith("ustar");
  const type = String.fromCharCode(block[156] ?? 0);
  return {
    name: prefix === "" ? name : `${prefix}/${name}`,
    mode: numberField(block, 100, 8, where) & 0o7777,
    uid: numberField(block, 108, 8, where),
    gid: numberField(block, 116, 8, where),
    size: numberField(block, 124, 12, where),
    type: type === "\0" ? "0" : type,
    linkName: textField(block, 157, 100, where),
    major: hasDevice ? numberField(block, 329, 8, where) : 0,
    minor: hasDevice ? numberField(block, 337, 8, where) : 0,
  };
}

export function tarError(where: string, why: string, cause?: unknown): KitError {
  return new KitError("E_IMAGE_TAR", `${where}: ${why}`, { cause });
}

/** Decodes text of an archive: UTF-8, nothing else, so that a path has one meaning. */
export function decodeTarText(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw tarError(where, "a name is not UTF-8", error);
  }
}

function checkSum(block: Buffer, where: string): void {
  let sum = 0;
  for (let index = 0; index < TAR_BLOCK_BYTES; index += 1) {
    sum += index >= 148 && index < 156 ? 0x20 : (block[index] ?? 0);
  }
  if (numberField(block, 148, 8, where) !== sum) throw tarError(where, "the checksum of a header is wrong");
}

function textField(block: Buffer, offset: number, length: number, where: string): string {
  const field = block.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return decodeTarText(end < 0 ? field : field.subarray(0, end), where);
}

function numberField(block: Buffer, offset: number, length: number, where: string): number {
  const field = block.subarray(offset, offset + length);
  if (((field[0] ?? 0) & 0x80) !== 0) return binaryNumber(field, where);
  const text = field
    .toString("latin1")
    .replace(/^ +/, "")
    .replace(/[\0 ]+$/, "");
  if (!/^[0-7]*$/.test(text)) throw tarError(where, `not a number in a header: ${JSON.stringify(text)}`);
  return text === "" ? 0 : Number.parseInt(text, 8);
}

function binaryNumber(field: Buffer, where: string): number {
  if (field[0] !== 0x80) throw tarError(where, "a negative or far too large number in a header");
  let value = 0n;
  for (const byte of field.subarray(1)) value = value * 256n + BigInt(byte);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw tarError(where, "a far too large number in a header");
  return Number(value);
}
