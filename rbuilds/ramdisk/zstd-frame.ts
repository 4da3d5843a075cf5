/**
 * Where a zstd frame ends, found without decompressing it: a decompressor does not say what it left over.
 *
 *   magic 28 b5 2f fd | descriptor 1 | window 0 or 1 | dictionary 0 to 4 | content size 0 to 8 | block... | checksum 0 or 4
 *   block: 3 bytes, little-endian: bit 0 last, bits 1-2 type (0 as it is, 1 one byte repeated, 2 compressed), 21 bits size
 * Source: RFC 8878, 3.1.1.
 */
import type { FileRange } from "./file-range.ts";

export const ZSTD_MAGIC = 0xfd_2f_b5_28;

/** What Linux sets aside for decompressing a ramdisk. */
export const MAX_WINDOW_LOG = 27;

const BLOCK_HEADER_BYTES = 3;
const MAGIC_BYTES = 4;
const MAX_HEADER_BYTES = 18;
/** By the upper two bits of the descriptor; a frame of a single segment has at least one. */
const CONTENT_SIZE_BYTES = [0, 2, 4, 8];

type Refusal = (why: string, offset: number) => Error;

/** The offset after the frame that begins at `start`. @throws what `refuse` makes. */
export async function findZstdFrameEnd(range: FileRange, start: number, refuse: Refusal): Promise<number> {
  const head = await range.at(start, MAX_HEADER_BYTES);
  const header = readFrameHeader(head, (why) => refuse(why, start));
  let offset = start + header.sizeBytes;
  for (let isLast = false; !isLast;) {
    const bytes = offset < range.sizeBytes ? await range.at(offset, BLOCK_HEADER_BYTES) : Buffer.alloc(0);
    if (bytes.length < BLOCK_HEADER_BYTES) throw refuse("a zstd frame is cut off", offset);
    const passed = passBlocks(bytes);
    if (passed === undefined) throw refuse("a zstd frame has a block of an unknown type", offset);
    offset += passed.lengthBytes;
    isLast = passed.isLast;
  }
  const end = offset + header.checksumBytes;
  if (end > range.sizeBytes) throw refuse("a zstd frame is cut off", range.sizeBytes);
  return end;
}

/** All blocks that begin in `bytes`, which may end beyond them. Millions of empty ones may follow one another. */
function passBlocks(bytes: Buffer): { readonly lengthBytes: number; readonly isLast: boolean } | undefined {
  let offset = 0;
  while (offset + BLOCK_HEADER_BYTES <= bytes.length) {
    const block = bytes.readUIntLE(offset, BLOCK_HEADER_BYTES);
    const type = (block >> 1) & 3;
    if (type === 3) return undefined;
    offset += BLOCK_HEADER_BYTES + (type === 1 ? 1 : block >> 3);
    if ((block & 1) === 1) return { lengthBytes: offset, isLast: true };
  }
  return { lengthBytes: offset, isLast: false };
}

interface FrameHeader {
  readonly sizeBytes: number;
  readonly checksumBytes: number;
}

function readFrameHeader(bytes: Buffer, refuse: (why: string) => Error): FrameHeader {
  const descriptor = bytes[MAGIC_BYTES];
  if (descriptor === undefined) throw refuse("a zstd frame is cut off");
  if ((descriptor & 3) !== 0) throw refuse("a zstd frame needs a dictionary");
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeOffset = MAGIC_BYTES + (isSingleSegment ? 1 : 2);
  const contentSizeBytes = CONTENT_SIZE_BYTES[descriptor >> 6] ?? 0;
  const sizeBytes = sizeOffset + (isSingleSegment ? Math.max(1, contentSizeBytes) : contentSizeBytes);
  if (bytes.length < sizeBytes) throw refuse("a zstd frame is cut off");
  const window = isSingleSegment
    ? readSize(bytes, sizeOffset, sizeBytes - sizeOffset)
    : readWindow(bytes[sizeOffset - 1] ?? 0);
  if (window > 2 ** MAX_WINDOW_LOG)
    throw refuse(`a zstd frame has a window of ${window} bytes; Linux takes at most 2^${MAX_WINDOW_LOG}`);
  return { sizeBytes, checksumBytes: (descriptor & 4) === 0 ? 0 : 4 };
}

function readWindow(byte: number): number {
  const base = 2 ** (10 + (byte >> 3));
  return base + (base / 8) * (byte & 7);
}

/** Approximate beyond 2^53, which is too large anyway. */
function readSize(bytes: Buffer, offset: number, length: number): number {
  if (length === 8) return Number(bytes.readBigUInt64LE(offset));
  return bytes.readUIntLE(offset, length) + (length === 2 ? 256 : 0);
}
