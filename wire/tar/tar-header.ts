/**
 * One 512-byte header of a tar archive.
 *
 *   0 name 100 | 100 mode 8 | 108 uid 8 | 116 gid 8 | 124 size 12 | 136 mtime 12 | 148 checksum 8 | 156 type 1
 *   157 linkname 100 | 257 magic "ustar" | 263 version "00" | 265 uname 32 | 297 gname 32 | 329 major 8 | 337 minor 8
 *   345 prefix 155 (POSIX only)
 *
 * Numbers are octal text, or base 256 with the top bit of the first byte set (GNU). POSIX archives have magic
 * "ustar\0" and a prefix; GNU's have "ustar " and none; the oldest have neither.
 */

export const TAR_BLOCK_BYTES = 512;

/** Makes the error for an archive that is not taken; the reader's user chooses the code and names the archive. */
export type TarRefusal = (why: string, cause?: unknown) => Error;

export interface TarHeader {
  readonly name: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** In seconds; undefined if the field says no time, which only matters to who wants it. */
  readonly mtime: number | undefined;
  /** The type flag as a character; "0" for the old NUL. */
  readonly type: string;
  readonly linkName: string;
  readonly major: number;
  readonly minor: number;
}

/** @param block exactly 512 bytes. @returns undefined for a block of zeros. @throws what `refuse` makes. */
export function decodeTarHeader(block: Buffer, refuse: TarRefusal): TarHeader | undefined {
  if (block.every((byte) => byte === 0)) return undefined;
  if (numberField(block, 148, 8, refuse) !== sumOfHeader(block))
    throw refuse("the checksum of a header is wrong");
  const magic = block.toString("latin1", 257, 263);
  const posix = magic === "ustar\0";
  const name = textField(block, 0, 100, refuse);
  const prefix = posix ? textField(block, 345, 155, refuse) : "";
  const hasDevice = magic.startsWith("ustar");
  const type = String.fromCharCode(block[156] ?? 0);
  return {
    name: prefix === "" ? name : `${prefix}/${name}`,
    mode: numberField(block, 100, 8, refuse) & 0o7777,
    uid: numberField(block, 108, 8, refuse),
    gid: numberField(block, 116, 8, refuse),
    size: numberField(block, 124, 12, refuse),
    mtime: timeField(block.subarray(136, 148)),
    type: type === "\0" ? "0" : type,
    linkName: textField(block, 157, 100, refuse),
    major: hasDevice ? numberField(block, 329, 8, refuse) : 0,
    minor: hasDevice ? numberField(block, 337, 8, refuse) : 0,
  };
}

/** Decodes text of an archive: UTF-8, nothing else, so that a path has one meaning. */
export function decodeTarText(bytes: Uint8Array, refuse: TarRefusal): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw refuse("a name is not UTF-8", error);
  }
}

/** Of the bytes of a header, with spaces in the place of the checksum itself. */
export function sumOfHeader(block: Uint8Array): number {
  let sum = 0;
  for (let index = 0; index < TAR_BLOCK_BYTES; index += 1) {
    sum += index >= 148 && index < 156 ? 0x20 : (block[index] ?? 0);
  }
  return sum;
}

function textField(block: Buffer, offset: number, length: number, refuse: TarRefusal): string {
  const field = block.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return decodeTarText(end < 0 ? field : field.subarray(0, end), refuse);
}

function numberField(block: Buffer, offset: number, length: number, refuse: TarRefusal): number {
  const field = block.subarray(offset, offset + length);
  if (((field[0] ?? 0) & 0x80) !== 0) return binaryNumber(field, refuse);
  const text = octalText(field);
  if (!/^[0-7]*$/.test(text)) throw refuse(`not a number in a header: ${JSON.stringify(text)}`);
  return text === "" ? 0 : Number.parseInt(text, 8);
}

function octalText(field: Buffer): string {
  return field
    .toString("latin1")
    .replace(/^ +/, "")
    .replace(/[\0 ]+$/, "");
}

function binaryNumber(field: Buffer, refuse: TarRefusal): number {
  if (field[0] !== 0x80) throw refuse("a negative or far too large number in a header");
  let value = 0n;
  for (const byte of field.subarray(1)) value = value * 256n + BigInt(byte);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw refuse("a far too large number in a header");
  return Number(value);
}

/** Times may be before 1970: two's complement then, with all bits of the first byte set. */
function timeField(field: Buffer): number | undefined {
  const first = field[0] ?? 0;
  if ((first & 0x80) === 0) {
    const text = octalText(field);
    if (!/^[0-7]*$/.test(text)) return undefined;
    return text === "" ? 0 : Number.parseInt(text, 8);
  }
  if (first !== 0x80 && first !== 0xff) return undefined;
  const value = Number(BigInt.asIntN(88, BigInt(`0x${field.toString("hex", 1)}`)));
  return Number.isSafeInteger(value) ? value : undefined;
}
