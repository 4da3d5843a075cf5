/**
 * The "new ASCII" cpio archive, as the kernel's initramfs code reads it:
 *
 *   header   "070701", then 13 fields of 8 hexadecimal digits: inode, mode, uid, gid, links, mtime, file size,
 *            device major and minor, node major and minor, name size with its NUL, check sum (0)
 *   name     ends with NUL; zero bytes up to a multiple of four from the start of the archive
 *   data     a file's content or a link's target; zero bytes up to a multiple of four
 *
 * The entry named TRAILER!!! ends the archive.
 */
export interface NewcEntry {
  readonly inode: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly mtime: number;
  readonly device: readonly [major: number, minor: number];
  readonly node: readonly [major: number, minor: number];
  readonly name: Buffer;
  readonly data: Buffer;
}

const HEADER_BYTES = 110;
const TRAILER = "TRAILER!!!";

/** The entries before the trailer, and where the archive ends, padding after the trailer's name included. */
export function parseArchive(bytes: Buffer): { entries: NewcEntry[]; end: number } {
  const entries: NewcEntry[] = [];
  let position = 0;
  for (;;) {
    const { entry, end } = parseEntry(bytes, position);
    position = end;
    if (entry.name.toString("latin1") === TRAILER) return { entries, end };
    entries.push(entry);
  }
}

function parseEntry(bytes: Buffer, start: number): { entry: NewcEntry; end: number } {
  const magic = bytes.toString("latin1", start, start + 6);
  if (magic !== "070701")
    throw new Error(`the archive entry at ${start} starts with ${JSON.stringify(magic)}`);
  const field = (index: number): number => parseField(bytes, start + 6 + 8 * index);
  const [inode, mode, uid, gid, links, mtime] = [field(0), field(1), field(2), field(3), field(4), field(5)];
  if (field(12) !== 0) throw new Error(`the archive entry at ${start} has a check sum`);
  const name = parseName(bytes, start + HEADER_BYTES, field(11));
  const dataStart = afterPadding(bytes, start + HEADER_BYTES + field(11));
  const dataEnd = dataStart + field(6);
  if (dataEnd > bytes.length) throw new Error(`the data of the archive entry at ${start} is cut short`);
  const [device, node] = [
    [field(7), field(8)],
    [field(9), field(10)],
  ] as const;
  const data = bytes.subarray(dataStart, dataEnd);
  const entry = { inode, mode, uid, gid, links, mtime, device, node, name, data };
  return { entry, end: afterPadding(bytes, dataEnd) };
}

function parseField(bytes: Buffer, start: number): number {
  const digits = bytes.toString("latin1", start, start + 8);
  if (!/^[0-9a-fA-F]{8}$/.test(digits))
    throw new Error(`${JSON.stringify(digits)} at ${start} is no hexadecimal field`);
  return Number.parseInt(digits, 16);
}

function parseName(bytes: Buffer, start: number, sizeBytes: number): Buffer {
  const name = bytes.subarray(start, start + sizeBytes);
  if (sizeBytes < 2 || name.length !== sizeBytes)
    throw new Error(`the name at ${start} has ${sizeBytes} bytes`);
  if (name.indexOf(0) !== sizeBytes - 1) throw new Error(`the name at ${start} does not end at its only NUL`);
  return name.subarray(0, -1);
}

function afterPadding(bytes: Buffer, position: number): number {
  const end = Math.ceil(position / 4) * 4;
  if (end > bytes.length) throw new Error("the archive ends inside its padding");
  if (bytes.subarray(position, end).some((byte) => byte !== 0))
    throw new Error(`the padding at ${position} is not zero`);
  return end;
}
