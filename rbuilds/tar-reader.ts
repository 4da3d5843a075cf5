/**
 * Members of a tar archive as they stream by: ustar, pax (POSIX 2001) and GNU long names. Strict: a bad checksum, a
 * truncated archive, a number that overflows, or extension data over its limit ends the reading with E_IMAGE_TAR.
 * Extension headers: `x` for the next member, `g` for all that follow, `L` and `K` GNU's long name and link name.
 */
import { KitError } from "../core/errors.ts";
import { ByteQueue } from "./byte-queue.ts";
import { decodePaxRecords } from "./pax-records.ts";
import { decodeTarHeader, decodeTarText, TAR_BLOCK_BYTES, tarError, type TarHeader } from "./tar-header.ts";

const MAX_EXTENSION_BYTES = 1024 * 1024;

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

type Extensions = Map<string, Buffer>;

/** @param where names the archive in messages. @throws E_IMAGE_TAR */
export async function* readTar(stream: AsyncIterable<Uint8Array>, where: string): AsyncGenerator<TarMember> {
  const queue = new ByteQueue(stream, (why) => tarError(where, why));
  const globals: Extensions = new Map();
  let locals: Extensions = new Map();
  for (;;) {
    const header = decodeTarHeader(await readHeaderBlock(queue), where);
    if (header === undefined) break;
    if (isExtension(header.type)) {
      await readExtension(queue, header, { globals, locals }, where);
      continue;
    }
    const member = describeMember(header, new Map([...globals, ...locals]), queue, where);
    locals = new Map();
    const end = queue.position + padded(member.size);
    yield member;
    await queue.skip(end - queue.position);
  }
  if (locals.size > 0) throw tarError(where, "the archive ends after an extension header");
  await queue.drain();
}

async function readHeaderBlock(queue: ByteQueue): Promise<Buffer> {
  // An archive that ends without its two blocks of zeros is accepted, as by every tar, if it ends between members.
  if (await queue.atEnd()) return Buffer.alloc(TAR_BLOCK_BYTES);
  return await queue.take(TAR_BLOCK_BYTES);
}

function isExtension(type: string): boolean {
  return type === "x" || type === "g" || type === "L" || type === "K";
}

async function readExtension(
  queue: ByteQueue,
  header: TarHeader,
  extensions: { readonly globals: Extensions; readonly locals: Extensions },
  where: string,
): Promise<void> {
  if (header.size > MAX_EXTENSION_BYTES)
    throw tarError(where, `an extension header has ${header.size} bytes`);
  const content = await queue.take(header.size);
  await queue.skip(padded(header.size) - header.size);
  if (header.type === "L") extensions.locals.set("path", untilNul(content));
  else if (header.type === "K") extensions.locals.set("linkpath", untilNul(content));
  else {
    const target = header.type === "g" ? extensions.globals : extensions.locals;
    for (const [key, value] of decodePaxRecords(content, where)) target.set(key, value);
  }
}

function untilNul(content: Buffer): Buffer {
  const end = content.indexOf(0);
  return end < 0 ? content : content.subarray(0, end);
}

function describeMember(
  header: TarHeader,
  extensions: Extensions,
  queue: ByteQueue,
  where: string,
): TarMember {
  const type = TYPES[header.type];
  if (type === undefined)
    throw tarError(where, `a member has the unknown type ${JSON.stringify(header.type)}`);
  const text = (key: string, fallback: string): string => {
    const value = extensions.get(key);
    return value === undefined ? fallback : decodeTarText(value, where);
  };
  const number = (key: string, fallback: number): number => {
    const value = extensions.get(key);
    return value === undefined ? fallback : paxNumber(value, where);
  };
  if (extensions.has("GNU.sparse.major") || extensions.has("GNU.sparse.map"))
    throw tarError(where, "sparse members are not taken");
  const size = type === "file" ? number("size", header.size) : 0;
  if (type !== "file" && type !== "hardlink" && header.size > 0)
    throw tarError(where, `a ${type} has content`);
  return {
    name: text("path", header.name),
    type,
    mode: header.mode,
    uid: number("uid", header.uid),
    gid: number("gid", header.gid),
    size,
    linkName: text("linkpath", header.linkName),
    major: header.major,
    minor: header.minor,
    xattrs: readXattrs(extensions, where),
    offset: queue.position,
    content: queue.content(size),
  };
}

function paxNumber(value: Buffer, where: string): number {
  const text = value.toString("latin1");
  const number = Number(text);
  if (!/^[0-9]{1,16}$/.test(text) || !Number.isSafeInteger(number))
    throw tarError(where, `not a number: ${JSON.stringify(text.slice(0, 40))}`);
  return number;
}

const XATTR_PREFIX = "SCHILY.xattr.";

function readXattrs(extensions: Extensions, where: string): Record<string, string> {
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
