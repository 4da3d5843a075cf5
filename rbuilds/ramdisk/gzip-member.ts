/**
 * One member of a gzip stream. Node's own reader goes on to the next member and says nothing of where one ended; the
 * kernel begins anew at each.
 *
 *   1f 8b | method 08 | flags 1 | time 4 | extra flags 1 | system 1 | name and NUL, if flagged | deflate | CRC-32 | size
 * Source: RFC 1952.
 */
import { crc32, createInflateRaw } from "node:zlib";

import { decodeThrough } from "./decode-through.ts";
import type { FileRange } from "./file-range.ts";

const HEADER_BYTES = 10;
const TRAILER_BYTES = 8;
const FLAG_NAME = 0x08;
const MAX_NAME_BYTES = 4096;
const CHUNK_BYTES = 128 * 1024;

type Refusal = (why: string, offset: number, cause?: unknown) => Error;

/** The content; returns the offset after the member. @throws what `refuse` makes. */
export async function* readGzipMember(
  range: FileRange,
  start: number,
  refuse: Refusal,
): AsyncGenerator<Uint8Array, number> {
  const dataStart = await findData(range, start, refuse);
  const inflate = createInflateRaw({ chunkSize: CHUNK_BYTES });
  let crc = 0;
  let sizeBytes = 0;
  const refuseData = (why: string, cause: unknown): Error => refuse(why, start, cause);
  for await (const chunk of decodeThrough(range.chunks(dataStart), inflate, refuseData)) {
    crc = crc32(chunk, crc);
    sizeBytes += chunk.length;
    yield chunk;
  }
  const end = dataStart + inflate.bytesWritten;
  const trailer = end < range.sizeBytes ? await range.at(end, TRAILER_BYTES) : Buffer.alloc(0);
  if (trailer.length < TRAILER_BYTES) throw refuse("a gzip member is cut off", range.sizeBytes);
  if (trailer.readUInt32LE(0) !== crc) throw refuse("the checksum of a gzip member is wrong", end);
  if (trailer.readUInt32LE(4) !== sizeBytes % 2 ** 32)
    throw refuse("the size in a gzip member is wrong", end);
  return end + TRAILER_BYTES;
}

/** Linux knows no flag but that of a name. */
async function findData(range: FileRange, start: number, refuse: Refusal): Promise<number> {
  const head = await range.at(start, HEADER_BYTES + MAX_NAME_BYTES);
  if (head.length <= HEADER_BYTES) throw refuse("a gzip member is cut off", start);
  const flags = head[3] ?? 0;
  if (head[2] !== 8 || (flags & ~FLAG_NAME) !== 0)
    throw refuse("a gzip member has another method or flags", start);
  if ((flags & FLAG_NAME) === 0) return start + HEADER_BYTES;
  const nul = head.subarray(0, HEADER_BYTES + MAX_NAME_BYTES).indexOf(0, HEADER_BYTES);
  if (nul < 0) throw refuse("the name in a gzip member does not end", start);
  return start + nul + 1;
}
