/**
 * Members of a tar archive as they stream by: ustar, pax (POSIX 2001) and GNU long names. Strict: a bad checksum, a
 * truncated archive, a number that overflows, or extension data over its limit ends the reading with E_IMAGE_TAR, and
 * so does what readers of tar are known to take differently (see tar-extensions.ts).
 */
import { KitError } from "../core/errors.ts";
import { ByteQueue } from "./byte-queue.ts";
import { isExtension, MAX_EXTENSION_BYTES, TarExtensions, XATTR_PREFIX } from "./tar-extensions.ts";
import { decodeTarHeader, decodeTarText, TAR_BLOCK_BYTES, tarError, type TarHeader } from "./tar-header.ts";

/** The highest id is "nobody has said" to the kernel. */
const MAX_ID = 0xff_ff_ff_fe;
/** Linux's dev_t: 12 bits and 20. */
const MAX_MAJOR = 0xfff;
const MAX_MINOR = 0xf_ff_ff;

export type TarType = "file" | "hardlink" | "symlink" | "character" | "block" | "directory" | "fifo";

export interface TarMember {
  /** As written in the archive. */
  readonly name: string;
  readonly type: TarType;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
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

/** @param where names the archive in messages. @throws E_IMAGE_TAR */
export async function* readTar(stream: AsyncIterable<Uint8Array>, where: string): AsyncGenerator<TarMember> {
  await using queue = new ByteQueue(stream, (why) => tarError(where, why));
  const extensions = new TarExtensions(where);
  for (;;) {
    const header = decodeTarHeader(await readHeaderBlock(queue), where);
    if (header === undefined) break;
    if (isExtension(header.type)) {
      await readExtension(queue, header, extensions, where);
      continue;
    }
    const member = describeMember(header, extensions.takeForMember(), queue, where);
    const end = queue.position + padded(member.size);
    yield member;
    await queue.skip(end - queue.position);
  }
  if (extensions.isPending) throw tarError(where, "the archive ends after an extension header");
  const second = decodeTarHeader(await readHeaderBlock(queue), where);
  if (second !== undefined) throw tarError(where, "one block of zeros is followed by more members");
  await queue.drain();
}

async function readHeaderBlock(queue: ByteQueue): Promise<Buffer> {
  // An archive that ends without its two blocks of zeros is accepted, as by every tar, if it ends between members.
  if (await queue.atEnd()) return Buffer.alloc(TAR_BLOCK_BYTES);
  return await queue.take(TAR_BLOCK_BYTES);
}

async function readExtension(
  queue: ByteQueue,
  header: TarHeader,
  extensions: TarExtensions,
  where: string,
): Promise<void> {
  if (header.size > MAX_EXTENSION_BYTES)
    throw tarError(where, `an extension header has ${header.size} bytes`);
  const content = await queue.take(header.size);
  await queue.skip(padded(header.size) - header.size);
  extensions.add(header.type, content);
}

function describeMember(
  header: TarHeader,
  extensions: ReadonlyMap<string, Buffer>,
  queue: ByteQueue,
  where: string,
): TarMember {
  const text = (key: string, fallback: string): string => {
    const value = extensions.get(key);
    return value === undefined ? fallback : decodeTarText(value, where);
  };
  const number = (key: string, fallback: number): number => {
    const value = extensions.get(key);
    return value === undefined ? fallback : paxNumber(value, where);
  };
  const name = text("path", header.name);
  const type = typeOf(header, name, where);
  const size = type === "file" ? number("size", header.size) : 0;
  if (type !== "file" && type !== "hardlink" && header.size > 0)
    throw tarError(where, `a ${type} has content`);
  return {
    name,
    type,
    mode: header.mode,
    uid: bounded(number("uid", header.uid), MAX_ID, where),
    gid: bounded(number("gid", header.gid), MAX_ID, where),
    size,
    linkName: text("linkpath", header.linkName),
    major: bounded(header.major, MAX_MAJOR, where),
    minor: bounded(header.minor, MAX_MINOR, where),
    xattrs: readXattrs(extensions, where),
    offset: queue.position,
    content: queue.content(size),
  };
}

function typeOf(header: TarHeader, name: string, where: string): TarType {
  const type = TYPES[header.type];
  if (type === undefined)
    throw tarError(where, `a member has the unknown type ${JSON.stringify(header.type)}`);
  // Before POSIX there was no type for directories; GNU tar and Go still read such archives so.
  return type === "file" && name.endsWith("/") ? "directory" : type;
}

function bounded(value: number, maximum: number, where: string): number {
  if (value > maximum) throw tarError(where, `an owner or device number is ${value}, more than ${maximum}`);
  return value;
}

function paxNumber(value: Buffer, where: string): number {
  const text = value.toString("latin1");
  const number = Number(text);
  if (!/^[0-9]{1,16}$/.test(text) || !Number.isSafeInteger(number))
    throw tarError(where, `not a number: ${JSON.stringify(text.slice(0, 40))}`);
  return number;
}

function readXattrs(extensions: ReadonlyMap<string, Buffer>, where: string): Record<string, string> {
  const xattrs: Record<string, string> = {};
  for (const [key, value] of extensions) {
    if (!key.startsWith(XATTR_PREFIX)) continue;
    const name = key.slice(XATTR_PREFIX.length);
    if (!/^[\x21-\x7e]{1,255}$/.test(name))
      throw tarError(where, "a name of an extended attribute is malformed");
    xattrs[name] = value.toString("base64");
  }
  return xattrs;
}

function padded(size: number): number {
  return Math.ceil(size / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
}

/** The refusal of a member's name. */
export function tarNameError(where: string, name: string, why: string): KitError {
  return new KitError(
    "E_IMAGE_TAR_NAME",
    `${where}: the member ${JSON.stringify(name.slice(0, 200))}: ${why}`,
  );
}
