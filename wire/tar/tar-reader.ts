/**
 * Members of a tar archive as they stream by: ustar, pax (POSIX 2001) and GNU long names. Strict: a bad checksum, a
 * truncated archive, a number that overflows, or extension data over its limit ends the reading with a refusal, and so
 * does what readers of tar are known to take differently (see tar-extensions.ts).
 */
import { ByteQueue } from "./byte-queue.ts";
import { decodePaxTime } from "./pax-records.ts";
import { isExtension, MAX_EXTENSION_BYTES, TarExtensions, XATTR_PREFIX } from "./tar-extensions.ts";
import {
  decodeTarHeader,
  decodeTarText,
  TAR_BLOCK_BYTES,
  type TarHeader,
  type TarRefusal,
} from "./tar-header.ts";

/** The highest id is "nobody has said" to the kernel. */
const MAX_ID = 0xff_ff_ff_fe;
/** Linux's dev_t: 12 bits and 20. */
const MAX_MAJOR = 0xfff;
const MAX_MINOR = 0xf_ff_ff;
/** After the two blocks of zeros of a whole archive. */
const MAX_PADDING_BYTES = 1024 * 1024;

export type TarType = "file" | "hardlink" | "symlink" | "character" | "block" | "directory" | "fifo";

export interface TarMember {
  /** As written in the archive. */
  readonly name: string;
  readonly type: TarType;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** When the content was changed last, in nanoseconds since 1970; undefined if the archive says no time. */
  readonly mtimeNs: bigint | undefined;
  readonly linkName: string;
  readonly major: number;
  readonly minor: number;
  /** SCHILY.xattr.* of pax, values in base64. */
  readonly xattrs: Readonly<Record<string, string>>;
  /** Offset of the content in the archive. */
  readonly offset: number;
  /** The content; what is not read is skipped. */
  readonly content: AsyncIterable<Uint8Array>;
}

const TYPES: Readonly<Record<string, TarType>> = {
  "0": "file",
  "7": "file",
  "1": "hardlink",
  "2": "symlink",
  "3": "character",
  "4": "block",
  "5": "directory",
  "6": "fifo",
};

export interface TarReading {
  readonly refuse: TarRefusal;
  /**
   * For archives that a program writes for another: both blocks of zeros must be there, so that one cut off between
   * two members is found, and nothing but zeros may follow them, at most MAX_PADDING_BYTES.
   */
  readonly isWhole?: boolean;
  /** Headers of every kind, extensions among them; without limit unless told. */
  readonly maxHeaders?: number;
}

/** @throws what `refuse` makes. */
export async function* readTar(
  stream: AsyncIterable<Uint8Array>,
  { refuse, isWhole = false, maxHeaders = Infinity }: TarReading,
): AsyncGenerator<TarMember> {
  await using queue = new ByteQueue(stream, refuse);
  const extensions = new TarExtensions(refuse);
  for (let headers = 0; ; headers += 1) {
    const header = decodeTarHeader(await readHeaderBlock(queue, isWhole), refuse);
    if (header === undefined) break;
    if (headers >= maxHeaders) throw refuse(`it has more than ${maxHeaders} headers`);
    if (isExtension(header.type)) {
      await readExtension(queue, header, extensions, refuse);
      continue;
    }
    const member = describeMember(header, extensions.takeForMember(), queue, refuse);
    const end = queue.position + padded(member.size);
    yield member;
    await queue.skip(end - queue.position);
  }
  if (extensions.isPending) throw refuse("the archive ends after an extension header");
  const second = decodeTarHeader(await readHeaderBlock(queue, isWhole), refuse);
  if (second !== undefined) throw refuse("one block of zeros is followed by more members");
  if (isWhole) await readPadding(queue, refuse);
  else await queue.drain();
}

async function readHeaderBlock(queue: ByteQueue, isWhole: boolean): Promise<Buffer> {
  // An archive that ends without its two blocks of zeros is accepted, as by every tar, if it ends between members.
  if (!isWhole && (await queue.atEnd())) return Buffer.alloc(TAR_BLOCK_BYTES);
  return await queue.take(TAR_BLOCK_BYTES);
}

/** Writers fill up their last record; GNU tar's have 10 KiB unless told. */
async function readPadding(queue: ByteQueue, refuse: TarRefusal): Promise<void> {
  for (let left = MAX_PADDING_BYTES; !(await queue.atEnd());) {
    if (left === 0) throw refuse("the archive does not end");
    const part = await queue.some(left);
    if (part.some((byte) => byte !== 0)) throw refuse("bytes follow the end of the archive");
    left -= part.length;
  }
}

async function readExtension(
  queue: ByteQueue,
  header: TarHeader,
  extensions: TarExtensions,
  refuse: TarRefusal,
): Promise<void> {
  if (header.size > MAX_EXTENSION_BYTES) throw refuse(`an extension header has ${header.size} bytes`);
  const content = await queue.take(header.size);
  await queue.skip(padded(header.size) - header.size);
  extensions.add(header.type, content);
}

function describeMember(
  header: TarHeader,
  extensions: ReadonlyMap<string, Buffer>,
  queue: ByteQueue,
  refuse: TarRefusal,
): TarMember {
  const text = (key: string, fallback: string): string => {
    const value = extensions.get(key);
    return value === undefined ? fallback : decodeTarText(value, refuse);
  };
  const number = (key: string, fallback: number): number => {
    const value = extensions.get(key);
    return value === undefined ? fallback : paxNumber(value, refuse);
  };
  const name = text("path", header.name);
  const type = typeOf(header, name, refuse);
  const size = type === "file" ? number("size", header.size) : 0;
  if (type !== "file" && type !== "hardlink" && header.size > 0) throw refuse(`a ${type} has content`);
  return {
    name,
    type,
    mode: header.mode,
    uid: bounded(number("uid", header.uid), MAX_ID, refuse),
    gid: bounded(number("gid", header.gid), MAX_ID, refuse),
    size,
    mtimeNs: timeOf(header, extensions),
    linkName: text("linkpath", header.linkName),
    major: bounded(header.major, MAX_MAJOR, refuse),
    minor: bounded(header.minor, MAX_MINOR, refuse),
    xattrs: readXattrs(extensions, refuse),
    offset: queue.position,
    content: queue.content(size),
  };
}

function typeOf(header: TarHeader, name: string, refuse: TarRefusal): TarType {
  const type = TYPES[header.type];
  if (type === undefined) throw refuse(`a member has the unknown type ${JSON.stringify(header.type)}`);
  // Before POSIX there was no type for directories; GNU tar and Go still read such archives so.
  return type === "file" && name.endsWith("/") ? "directory" : type;
}

function timeOf(header: TarHeader, extensions: ReadonlyMap<string, Buffer>): bigint | undefined {
  const value = extensions.get("mtime");
  if (value !== undefined) return decodePaxTime(value);
  return header.mtime === undefined ? undefined : BigInt(header.mtime) * 1_000_000_000n;
}

function bounded(value: number, maximum: number, refuse: TarRefusal): number {
  if (value > maximum) throw refuse(`an owner or device number is ${value}, more than ${maximum}`);
  return value;
}

function paxNumber(value: Buffer, refuse: TarRefusal): number {
  const text = value.toString("latin1");
  const number = Number(text);
  if (!/^[0-9]{1,16}$/.test(text) || !Number.isSafeInteger(number))
    throw refuse(`not a number: ${JSON.stringify(text.slice(0, 40))}`);
  return number;
}

function readXattrs(extensions: ReadonlyMap<string, Buffer>, refuse: TarRefusal): Record<string, string> {
  const xattrs: Record<string, string> = {};
  for (const [key, value] of extensions) {
    if (!key.startsWith(XATTR_PREFIX)) continue;
    const name = key.slice(XATTR_PREFIX.length);
    if (!/^[\x21-\x7e]{1,255}$/.test(name)) throw refuse("a name of an extended attribute is malformed");
    xattrs[name] = value.toString("base64");
  }
  return xattrs;
}

function padded(size: number): number {
  return Math.ceil(size / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
}
