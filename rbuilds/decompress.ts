import { Readable, type Transform } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";

import { KitError } from "../core/errors.ts";

/** More output than this many times the input is a bomb, once the output is larger than FREE_BYTES. */
const MAX_RATIO = 500;
const FREE_BYTES = 64 * 1024 * 1024;

export interface DecompressOptions {
  /** Of the output. */
  readonly maxBytes: number;
  /** Names the input in messages. */
  readonly source: string;
}

/**
 * The content of a gzip, zstd or plain stream, told apart by its first bytes.
 * @throws E_IMAGE_TAR_TOO_LARGE when the output is over the limit or out of proportion, E_IMAGE_COMPRESSION when the
 *   input is damaged.
 */
export async function* decompress(
  stream: AsyncIterable<Uint8Array>,
  options: DecompressOptions,
): AsyncGenerator<Uint8Array> {
  const iterator = stream[Symbol.asyncIterator]();
  try {
    const head = await readHead(iterator);
    const counts = { input: 0, output: 0 };
    const input = countInput(head, iterator, counts);
    const decoder = decoderOf(head);
    const output = decoder === undefined ? input : decodeThrough(input, decoder, options.source);
    for await (const chunk of output) {
      counts.output += chunk.length;
      refuseBomb(counts, options);
      yield chunk;
    }
  } finally {
    // Read by hand, so closed by hand when the reader stops early.
    await iterator.return?.();
  }
}

/** At least four bytes if the stream has them. */
async function readHead(iterator: AsyncIterator<Uint8Array>): Promise<Buffer> {
  let head = Buffer.alloc(0);
  while (head.length < 4) {
    const next = await iterator.next();
    if (next.done === true) break;
    head = Buffer.concat([head, next.value]);
  }
  return head;
}

function decoderOf(head: Buffer): Transform | undefined {
  if (head[0] === 0x1f && head[1] === 0x8b) return createGunzip();
  return head.length >= 4 && head.readUInt32LE(0) === 0xfd_2f_b5_28 ? createZstdDecompress() : undefined;
}

async function* countInput(
  head: Buffer,
  iterator: AsyncIterator<Uint8Array>,
  counts: { input: number },
): AsyncGenerator<Uint8Array> {
  counts.input += head.length;
  if (head.length > 0) yield head;
  for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
    counts.input += next.value.length;
    yield next.value;
  }
}

async function* decodeThrough(
  input: AsyncIterable<Uint8Array>,
  decoder: Transform,
  source: string,
): AsyncGenerator<Uint8Array> {
  const readable = Readable.from(input, { objectMode: false });
  readable.once("error", (error) => decoder.destroy(error));
  readable.pipe(decoder);
  try {
    for await (const chunk of decoder) yield Buffer.from(chunk);
  } catch (error) {
    if (error instanceof KitError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new KitError("E_IMAGE_COMPRESSION", `${source}: ${why}`, { cause: error });
  } finally {
    readable.destroy();
    decoder.destroy();
  }
}

function refuseBomb(
  counts: { readonly input: number; readonly output: number },
  options: DecompressOptions,
): void {
  if (counts.output > options.maxBytes) {
    throw new KitError(
      "E_IMAGE_TAR_TOO_LARGE",
      `${options.source} has more than ${options.maxBytes} bytes once decompressed`,
    );
  }
  if (counts.output > FREE_BYTES && counts.output > counts.input * MAX_RATIO) {
    const message = `${options.source} grows more than ${MAX_RATIO} times when decompressed`;
    throw new KitError("E_IMAGE_TAR_TOO_LARGE", message);
  }
}
