/**
 * Entries of one newc archive as they stream by. Strict where Linux passes over what it does not understand (a name
 * that is too long, a directory with content) or believes what others do not (digits, padding), so that what is shown
 * of an archive is what a kernel makes of it. Nothing is held but the entry at hand.
 */
import type { ByteSource } from "./byte-source.ts";
import {
  decodeNewcHeader,
  NEWC_HEADER_BYTES,
  NEWC_TRAILER,
  type NewcHeader,
  newcPadding,
  type NewcRefusal,
  type NewcType,
} from "./newc-header.ts";

/** Linux's PATH_MAX counts a NUL at the end. */
const MAX_TARGET_BYTES = 4095;

export interface NewcEntry extends NewcHeader {
  readonly type: NewcType;
  /** As in the archive, without the NUL. */
  readonly name: Buffer;
  /** Of a symbolic link. */
  readonly target: Buffer | undefined;
  /** Of a file, once; what is not read is skipped. */
  readonly content: AsyncIterable<Uint8Array>;
}

/**
 * Reads up to and with the trailer; `source` is left at what follows. Where it begins counts as a multiple of 4.
 * @throws what `refuse` makes.
 */
export async function* readNewcArchive(source: ByteSource, refuse: NewcRefusal): AsyncGenerator<NewcEntry> {
  const start = source.position;
  const pad = async (): Promise<void> => await takePadding(source, start, refuse);
  for (;;) {
    const header = decodeNewcHeader(await source.take(NEWC_HEADER_BYTES), refuse);
    const name = readName(await source.take(header.nameBytes), refuse);
    await pad();
    if (name.equals(TRAILER)) return checkTrailer(header, refuse);
    const type = checkType(header, name, refuse);
    const target = type === "symlink" ? await readTarget(source, header, refuse) : undefined;
    const body = { left: type === "file" ? header.sizeBytes : 0, sum: 0 };
    const content = readBody(source, body, header.checksum !== undefined);
    yield { ...header, type, name, target, content };
    // What the caller has not read.
    for await (const part of readBody(source, body, header.checksum !== undefined)) void part;
    // Only that name of a file which has the content has its checksum.
    if (type === "file" && header.sizeBytes > 0 && body.sum !== (header.checksum ?? 0))
      throw refuse("the checksum of a file is wrong");
    await pad();
  }
}

const TRAILER = Buffer.from(NEWC_TRAILER);

function readName(bytes: Buffer, refuse: NewcRefusal): Buffer {
  const end = bytes.indexOf(0);
  if (end !== bytes.length - 1) throw refuse("a name does not end with its only NUL");
  // A copy: the chunk it lies in is much larger, and names are kept for long.
  return Buffer.from(bytes.subarray(0, end));
}

async function takePadding(source: ByteSource, start: number, refuse: NewcRefusal): Promise<void> {
  const length = newcPadding(source.position - start);
  if (length === 0) return;
  const bytes = await source.take(length);
  if (bytes.some((byte) => byte !== 0)) throw refuse("padding is not zeros");
}

/** By its name alone Linux knows a trailer, but not if the type says that it is a link. */
function checkTrailer({ type, sizeBytes }: NewcHeader, refuse: NewcRefusal): void {
  if (sizeBytes !== 0 || type === "symlink") throw refuse("the trailer has a body");
}

function checkType({ type, sizeBytes }: NewcHeader, name: Buffer, refuse: NewcRefusal): NewcType {
  const shown = JSON.stringify(name.toString("latin1").slice(0, 200));
  if (type === undefined) throw refuse(`the type of ${shown} is unknown`);
  if (sizeBytes > 0 && type !== "file" && type !== "symlink") throw refuse(`${shown}, a ${type}, has a body`);
  return type;
}

/** Linux's gen_init_cpio counts a NUL at the end, GNU cpio writes none. */
async function readTarget(source: ByteSource, header: NewcHeader, refuse: NewcRefusal): Promise<Buffer> {
  const { sizeBytes } = header;
  if (sizeBytes > MAX_TARGET_BYTES + 1) throw refuse(`a symbolic link says ${sizeBytes} bytes`);
  const bytes = await source.take(sizeBytes);
  const target = bytes.at(-1) === 0 ? bytes.subarray(0, -1) : bytes;
  if (target.length === 0 || target.length > MAX_TARGET_BYTES || target.includes(0))
    throw refuse(`a symbolic link does not say 1 to ${MAX_TARGET_BYTES} bytes without NUL`);
  return Buffer.from(target);
}

interface Body {
  /** Bytes yet to come. */
  left: number;
  /** Of the bytes so far, modulo 2^32; stays 0 where nobody compares it. */
  sum: number;
}

/** May be stopped and begun anew; each goes on where the last one ended. */
async function* readBody(source: ByteSource, body: Body, isSummed: boolean): AsyncGenerator<Uint8Array> {
  while (body.left > 0) {
    const part = await source.some(body.left);
    body.left -= part.length;
    if (isSummed) body.sum = addBytes(body.sum, part);
    yield part;
  }
}

function addBytes(sum: number, bytes: Uint8Array): number {
  let result = sum;
  for (const byte of bytes) result = (result + byte) >>> 0;
  return result;
}
