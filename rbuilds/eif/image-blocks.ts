/** Puts the pieces of an image together to blocks of equal size. */
import { crc32 } from "node:zlib";

import type { PreparedFile } from "../prepared-file.ts";
import type { BlockMemory } from "./block-memory.ts";
import { changed, openPreparedFile } from "./prepared-file-reader.ts";

/** Bytes or a whole file, and the registers that measure it. */
export interface ImagePiece {
  readonly source: Uint8Array | PreparedFile;
  readonly measuredBy: readonly ("PCR0" | "PCR2")[];
}

/** Part of a piece in a block: from `start` up to `end`. */
export interface BlockSpan {
  readonly start: number;
  readonly end: number;
  readonly piece: ImagePiece;
}

export interface ImageBlock {
  /** From 0. */
  readonly index: number;
  /** The whole memory of the block. */
  readonly memory: Buffer;
  /** The last block is not full. */
  readonly sizeBytes: number;
  readonly spans: readonly BlockSpan[];
}

export interface AssembleOptions {
  readonly memory: BlockMemory;
  /** Called with the bytes of each span as soon as they are there. */
  readonly onSpan: (bytes: Buffer, piece: ImagePiece) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Blocks in order; whoever gets one must release it to the memory.
 * @throws E_EIF_SOURCE_CHANGED for a file of another size or checksum, the reason of the signal
 */
export async function* assembleBlocks(
  pieces: readonly ImagePiece[],
  { memory, onSpan, signal }: AssembleOptions,
): AsyncGenerator<ImageBlock> {
  let block: OpenBlock = { index: 0, memory: await memory.take(0), sizeBytes: 0, spans: [] };
  for (const piece of pieces) {
    await using reader = await openPiece(piece.source);
    for (let left = reader.sizeBytes; left > 0;) {
      if (block.sizeBytes === block.memory.length) {
        yield block;
        signal?.throwIfAborted();
        const index = block.index + 1;
        block = { index, memory: await memory.take(index), sizeBytes: 0, spans: [] };
      }
      left -= await fill(block, { reader, left, piece, onSpan });
    }
    reader.end();
  }
  yield block;
}

interface OpenBlock extends ImageBlock {
  sizeBytes: number;
  readonly spans: BlockSpan[];
}

interface PieceReader extends AsyncDisposable {
  readonly sizeBytes: number;
  /** Fills the whole target. */
  read(target: Buffer): Promise<void>;
  /** After the last byte was read. */
  end(): void;
}

interface Filling extends Pick<AssembleOptions, "onSpan"> {
  readonly reader: PieceReader;
  readonly piece: ImagePiece;
  readonly left: number;
}

/** @returns how many bytes of the piece were added */
async function fill(block: OpenBlock, { reader, piece, left, onSpan }: Filling): Promise<number> {
  const start = block.sizeBytes;
  const end = Math.min(block.memory.length, start + left);
  const bytes = block.memory.subarray(start, end);
  await reader.read(bytes);
  onSpan(bytes, piece);
  block.spans.push({ start, end, piece });
  block.sizeBytes = end;
  return end - start;
}

async function openPiece(source: Uint8Array | PreparedFile): Promise<PieceReader> {
  return source instanceof Uint8Array ? readerOfBytes(source) : await readerOfFile(source);
}

function readerOfBytes(bytes: Uint8Array): PieceReader {
  let done = 0;
  return {
    sizeBytes: bytes.length,
    read: async (target) => {
      target.set(bytes.subarray(done, done + target.length));
      done += target.length;
      await Promise.resolve();
    },
    end: () => undefined,
    [Symbol.asyncDispose]: async () => await Promise.resolve(),
  };
}

async function readerOfFile(source: PreparedFile): Promise<PieceReader> {
  const file = await openPreparedFile(source);
  let done = 0;
  let sum = 0;
  return {
    sizeBytes: source.sizeBytes,
    read: async (target) => {
      await file.fill(target, done);
      done += target.length;
      sum = crc32(target, sum);
    },
    end: () => {
      if (sum !== source.crc32) throw changed(source.path, "has other content than when it was prepared");
    },
    [Symbol.asyncDispose]: async () => await file[Symbol.asyncDispose](),
  };
}
