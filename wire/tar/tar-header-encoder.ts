/**
 * Headers of one member as bytes: a POSIX header, and before it a pax header for what that one cannot say: names of
 * other than ASCII or over 100 bytes, owners over 21 bits, 8 GiB and more, times with a fraction or before 1970.
 */
import { encodePaxRecords, encodePaxTime } from "./pax-records.ts";
import { sumOfHeader, TAR_BLOCK_BYTES } from "./tar-header.ts";

const MAX_NAME_BYTES = 100;
const MAX_7_DIGITS = 0o7_777_777;
const MAX_11_DIGITS = 0o77_777_777_777;
const NANOSECONDS = 1_000_000_000n;

/** The types that are written, with their flags. */
const TYPE_FLAGS = { file: "0", hardlink: "1", symlink: "2", directory: "5" } as const;

export interface WrittenMember {
  /** Without a slash at the end. */
  readonly name: string;
  readonly type: keyof typeof TYPE_FLAGS;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** 0 for all but files. */
  readonly size: number;
  readonly mtimeNs: bigint;
  /** Of links; "" for the others. */
  readonly linkName: string;
}

/** A multiple of TAR_BLOCK_BYTES; the content follows it. */
export function encodeTarMember(member: WrittenMember): Buffer {
  const name = member.type === "directory" ? `${member.name}/` : member.name;
  const records = paxRecordsOf(member, name);
  const header = encodeHeader({ ...member, name }, TYPE_FLAGS[member.type]);
  if (records.size === 0) return header;
  const content = encodePaxRecords(records);
  const paxHeader = encodeHeader(
    { ...PAX_HEADER, name: `PaxHeaders/${name.slice(-80)}`, size: content.length },
    "x",
  );
  return Buffer.concat([paxHeader, content, Buffer.alloc(tarPadding(content.length)), header]);
}

/** Zeros between content of this length and the next header. */
export function tarPadding(sizeBytes: number): number {
  return (TAR_BLOCK_BYTES - (sizeBytes % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES;
}

const PAX_HEADER = { mode: 0o644, uid: 0, gid: 0, mtimeNs: 0n, linkName: "" };

function paxRecordsOf(member: WrittenMember, name: string): Map<string, string> {
  const records = new Map<string, string>();
  if (!fitsField(name)) records.set("path", name);
  if (!fitsField(member.linkName)) records.set("linkpath", member.linkName);
  if (member.uid > MAX_7_DIGITS) records.set("uid", String(member.uid));
  if (member.gid > MAX_7_DIGITS) records.set("gid", String(member.gid));
  if (member.size > MAX_11_DIGITS) records.set("size", String(member.size));
  const seconds = member.mtimeNs / NANOSECONDS;
  const isWhole = seconds * NANOSECONDS === member.mtimeNs;
  if (!isWhole || seconds < 0n || seconds > MAX_11_DIGITS)
    records.set("mtime", encodePaxTime(member.mtimeNs));
  return records;
}

function fitsField(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text) && text.length <= MAX_NAME_BYTES;
}

type HeaderFields = Omit<WrittenMember, "type">;

function encodeHeader(fields: HeaderFields, flag: string): Buffer {
  const header = Buffer.alloc(TAR_BLOCK_BYTES);
  writeText(header, 0, fields.name);
  writeOctal(header, 100, 8, fields.mode);
  writeOctal(header, 108, 8, fields.uid);
  writeOctal(header, 116, 8, fields.gid);
  writeSize(header, fields.size);
  writeOctal(header, 136, 12, wholeSeconds(fields.mtimeNs));
  header.write(flag, 156, "latin1");
  writeText(header, 157, fields.linkName);
  header.write("ustar\x0000", 257, "latin1");
  writeOctal(header, 329, 8, 0);
  writeOctal(header, 337, 8, 0);
  header.write(`${octal(sumOfHeader(header), 6)}\0 `, 148, "latin1");
  return header;
}

/** For readers without pax: something of the name, without characters that mean another thing elsewhere. */
function writeText(header: Buffer, offset: number, text: string): void {
  header.write(text.replaceAll(/[^\x20-\x7e]/g, "_").slice(0, MAX_NAME_BYTES), offset, "latin1");
}

/** What does not fit is in the pax header; 0 stands here. */
function writeOctal(header: Buffer, offset: number, width: number, value: number): void {
  const text = octal(value, width - 1);
  header.write(text.length < width ? text : octal(0, width - 1), offset, "latin1");
}

/** Base 256 where octal ends, so that a reader without pax finds the next header nevertheless. */
function writeSize(header: Buffer, size: number): void {
  if (size <= MAX_11_DIGITS) return writeOctal(header, 124, 12, size);
  header[124] = 0x80;
  header.writeBigUInt64BE(BigInt(size), 128);
}

function wholeSeconds(mtimeNs: bigint): number {
  return mtimeNs < 0n ? 0 : Number(mtimeNs / NANOSECONDS);
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, "0");
}
