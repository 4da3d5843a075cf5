/**
 * A segment as one zstd frame, or as it is for a kernel that cannot decompress. Equal segments have equal bytes with the same version of zstd: the compressor is fed in
 * pieces of one size, knows the whole size from the beginning, and is told of the end apart from the last piece.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { type FileHandle, open } from "node:fs/promises";
import { Transform } from "node:stream";
import { constants, crc32, createZstdCompress } from "node:zlib";

import { isErrno, KitError } from "../../core/errors.ts";
import { newcPadding } from "../../wire/newc/newc-header.ts";
import type { BlobStore } from "../blob-store.ts";
import { type FileEntry, type Segment, segmentBytes, segmentRecords, TRAILER_RECORD } from "./segment.ts";

/** Changes with every change of the bytes that are made of a segment. */
export const SEGMENT_RECIPE = 1;
/** Below the 2^27 bytes that the kernel allows: this level's window has at most 2^21. */
const LEVEL = 3;
const PIECE_BYTES = 1024 * 1024;

/** What the kernel of the image can decompress. */
export type RamdiskCompression = "zstd" | "none";

export interface WrittenSegment {
  readonly sizeBytes: number;
  readonly crc32: number;
  /** Of the file, lower-case hex. */
  readonly sha256: string;
  /** Of the archive. */
  readonly unpackedBytes: number;
}

export interface WriteSegmentOptions {
  readonly compression: RamdiskCompression;
  readonly blobs: BlobStore;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Writes the segment to `output` and on to the disk.
 * @throws E_IMAGE_BLOB_MISSING for a blob that is absent or not what its digest says.
 */
export async function writeSegment(
  segment: Segment,
  output: FileHandle,
  options: WriteSegmentOptions,
): Promise<WrittenSegment> {
  const unpackedBytes = segmentBytes(segment);
  const compressor = options.compression === "zstd" ? createZstd(unpackedBytes) : createCopier();
  try {
    // Both end whatever happens to one of them: a side that fails closes the compressor.
    const [saved, fed] = await Promise.allSettled([
      saveOutput(compressor, output),
      feedArchive(compressor, segment, options).catch((error: unknown) => {
        compressor.destroy(error instanceof Error ? error : new Error(String(error)));
        throw error;
      }),
    ]);
    if (saved.status === "rejected") throw saved.reason;
    if (fed.status === "rejected") throw fed.reason;
    await output.datasync();
    return { ...saved.value, unpackedBytes };
  } finally {
    compressor.destroy();
  }
}

function createZstd(unpackedBytes: number): Transform {
  return createZstdCompress({
    pledgedSrcSize: unpackedBytes,
    chunkSize: PIECE_BYTES,
    params: { [constants.ZSTD_c_compressionLevel]: LEVEL, [constants.ZSTD_c_checksumFlag]: 1 },
  });
}

/** Pieces are filled again once they are taken. */
function createCopier(): Transform {
  return new Transform({ transform: (piece: Buffer, _encoding, done) => done(null, Buffer.from(piece)) });
}

async function saveOutput(
  compressor: Transform,
  output: FileHandle,
): Promise<Omit<WrittenSegment, "unpackedBytes">> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  let crc = 0;
  for await (const chunk of compressor) {
    if (!(chunk instanceof Uint8Array)) throw new TypeError("a compressor gives bytes");
    hash.update(chunk);
    crc = crc32(chunk, crc);
    sizeBytes += chunk.length;
    await output.writeFile(chunk);
  }
  return { sizeBytes, crc32: crc, sha256: hash.digest("hex") };
}

async function feedArchive(
  compressor: Transform,
  segment: Segment,
  options: WriteSegmentOptions,
): Promise<void> {
  const pieces = new Pieces(compressor);
  for (const { head, body, bodyBytes } of segmentRecords(segment)) {
    await pieces.add(head);
    if (Buffer.isBuffer(body)) await pieces.add(body);
    else if (body !== undefined) await addContent(pieces, body, options);
    await pieces.add(ZEROS.subarray(0, newcPadding(bodyBytes)));
  }
  await pieces.add(TRAILER_RECORD.head);
  await pieces.finish();
}

const ZEROS = Buffer.alloc(3);

/** The content is hashed again: what goes into a measured image is what the manifest says, whatever the disk did. */
async function addContent(
  pieces: Pieces,
  file: FileEntry,
  { blobs, signal }: WriteSegmentOptions,
): Promise<void> {
  signal?.throwIfAborted();
  const hash = createHash("sha256");
  let left = file.size;
  await using blob = await openBlob(blobs.path(file.digest), file);
  while (left > 0) {
    signal?.throwIfAborted();
    const space = await pieces.space(left);
    const { bytesRead } = await blob.read(space, 0, space.length);
    if (bytesRead === 0) break;
    hash.update(space.subarray(0, bytesRead));
    pieces.filled(bytesRead);
    left -= bytesRead;
  }
  if (left > 0 || hash.digest("hex") !== file.digest) throw lostBlob(file, "is not what its digest says");
}

async function openBlob(path: string, file: FileEntry): Promise<FileHandle> {
  try {
    return await open(path, "r");
  } catch (error) {
    throw isErrno(error, "ENOENT") ? lostBlob(file, "is missing", error) : error;
  }
}

function lostBlob({ path, digest }: FileEntry, why: string, cause?: unknown): KitError {
  const message = `the content of ${JSON.stringify(path)}, ${digest}, ${why} in the blob store`;
  return new KitError("E_IMAGE_BLOB_MISSING", message, { cause });
}

/** Collects bytes into pieces of one size. While one is compressed the next is filled. */
class Pieces {
  readonly #compressor: Transform;
  readonly #failed: Promise<never>;
  #piece = Buffer.allocUnsafe(PIECE_BYTES);
  #other = Buffer.allocUnsafe(PIECE_BYTES);
  #used = 0;
  #compressed: Promise<void> = Promise.resolve();

  constructor(compressor: Transform) {
    this.#compressor = compressor;
    // A compressor that fails calls nobody back.
    this.#failed = once(compressor, "close").then(() => {
      throw compressor.errored ?? new Error("the compressor was closed");
    });
    this.#failed.catch(() => undefined);
  }

  async add(bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.length;) {
      const space = await this.space(bytes.length - offset);
      space.set(bytes.subarray(offset, offset + space.length));
      this.filled(space.length);
      offset += space.length;
    }
  }

  /** Where the next bytes go: at least one, at most `maximum`. */
  async space(maximum: number): Promise<Buffer> {
    if (this.#used === PIECE_BYTES) await this.#compress();
    return this.#piece.subarray(this.#used, this.#used + maximum);
  }

  filled(length: number): void {
    this.#used += length;
  }

  async finish(): Promise<void> {
    await this.#compress();
    await this.#settle();
    this.#compressor.end();
  }

  async #settle(): Promise<void> {
    await Promise.race([this.#compressed, this.#failed]);
  }

  async #compress(): Promise<void> {
    await this.#settle();
    const piece = this.#piece.subarray(0, this.#used);
    const { promise, resolve: done, reject } = Promise.withResolvers<void>();
    this.#compressor.write(piece, (error) => (error ? reject(error) : done()));
    promise.catch(() => undefined);
    this.#compressed = promise;
    [this.#piece, this.#other] = [this.#other, this.#piece];
    this.#used = 0;
  }
}
