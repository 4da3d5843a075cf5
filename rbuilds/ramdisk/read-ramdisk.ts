/**
 * Entries of a ramdisk as they stream by, for any image, not only ours. It takes what Linux takes: newc archives one
 * after another, plain at multiples of 4 or inside gzip members and zstd frames, zeros between them. It refuses what
 * Linux passes over in silence, and archives without a trailer.
 */
import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { constants, createZstdDecompress } from "node:zlib";

import { KitError } from "../../core/errors.ts";
import { ByteSource } from "../../wire/newc/byte-source.ts";
import type { NewcType } from "../../wire/newc/newc-header.ts";
import { type NewcEntry, readNewcArchive } from "../../wire/newc/newc-reader.ts";
import { toPrintablePath } from "../../wire/newc/printable-path.ts";
import { decodeThrough } from "./decode-through.ts";
import { FileRange } from "./file-range.ts";
import { readGzipMember } from "./gzip-member.ts";
import { findZstdFrameEnd, MAX_WINDOW_LOG, ZSTD_MAGIC } from "./zstd-frame.ts";

export interface RamdiskEntry {
  /** As text that can be shown; different bytes are different text (wire/newc/printable-path.ts). */
  readonly path: string;
  readonly pathBytes: Buffer;
  readonly type: NewcType;
  /** Permission, setuid, setgid and sticky bits (07777). */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  /** Means the same file only within one archive and one device. */
  readonly inode: number;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Which archive of the ramdisk, from 0. */
  readonly archive: number;
  /** Seconds since 1970. */
  readonly mtime: number;
  /** Of the body under this name: 0 for all names of a file but one. */
  readonly sizeBytes: number;
  readonly rdevMajor: number;
  readonly rdevMinor: number;
  /** Of the body of a file, lower-case hex. */
  readonly sha256: string | undefined;
  /** Of a symbolic link, as text like `path`. */
  readonly linkTarget: string | undefined;
}

export interface RamdiskLimits {
  readonly maxEntries: number;
  readonly maxArchives: number;
  readonly maxUnpackedBytes: number;
}

export const DEFAULT_RAMDISK_LIMITS: RamdiskLimits = {
  maxEntries: 1_000_000,
  maxArchives: 10_000,
  maxUnpackedBytes: 64 * 1024 ** 3,
};

export interface ReadRamdiskOptions {
  /** Where the ramdisk lies in the file. */
  readonly offset: number;
  readonly sizeBytes: number;
  readonly signal?: AbortSignal | undefined;
  readonly limits?: Partial<RamdiskLimits> | undefined;
}

/**
 * @throws E_RAMDISK_INVALID, E_RAMDISK_LIMIT, both with `details.offset` in the ramdisk; errors of the system for a
 *   file that cannot be opened.
 */
export async function* readRamdisk(path: string, options: ReadRamdiskOptions): AsyncGenerator<RamdiskEntry> {
  await using file = await open(path, "r");
  yield* new RamdiskReader(path, file, options).entries();
}

/** Of what a decompressor gives at a time. */
const CHUNK_BYTES = 128 * 1024;

class RamdiskReader {
  readonly #path: string;
  readonly #range: FileRange;
  readonly #limits: RamdiskLimits;
  readonly #signal: AbortSignal | undefined;
  #entries = 0;
  #archives = 0;
  #unpackedBytes = 0;

  constructor(path: string, file: FileHandle, { limits, ...part }: ReadRamdiskOptions) {
    this.#path = path;
    this.#signal = part.signal;
    this.#limits = { ...DEFAULT_RAMDISK_LIMITS, ...limits };
    this.#range = new FileRange(file, { ...part, refuse: this.#refuse });
  }

  /** An empty ramdisk has no entries, as for the kernel. */
  async *entries(): AsyncGenerator<RamdiskEntry> {
    for (let offset = 0; offset < this.#range.sizeBytes;) {
      const head = await this.#range.at(offset, 4);
      if (head[0] === 0) offset += countZeros(head);
      else if (head[0] === 0x30 && offset % 4 === 0) offset = yield* this.#readPlain(offset);
      else if (head.length >= 4 && head.readUInt32LE(0) === ZSTD_MAGIC)
        offset = yield* this.#readZstd(offset);
      else if (head[0] === 0x1f && head[1] === 0x8b) offset = yield* this.#readGzip(offset);
      else throw this.#refuse("there is neither a newc archive nor gzip nor zstd", offset);
    }
  }

  async *#readPlain(start: number): AsyncGenerator<RamdiskEntry, number> {
    const bytesBefore = this.#unpackedBytes;
    const place = (): number => start + source.position;
    const refuse = (why: string): Error => this.#refuse(why, place());
    await using source = new ByteSource(this.#count(this.#range.chunks(start), start), refuse);
    yield* this.#readArchive(source, refuse, place);
    // What was read ahead is not of this archive.
    this.#unpackedBytes = bytesBefore + source.position;
    return start + source.position;
  }

  async *#readZstd(start: number): AsyncGenerator<RamdiskEntry, number> {
    const end = await findZstdFrameEnd(this.#range, start, this.#refuse);
    const decoder = createZstdDecompress({
      chunkSize: CHUNK_BYTES,
      params: { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG },
    });
    const refuse = (why: string, cause: unknown): Error => this.#refuse(why, start, cause);
    yield* this.#readCompressed(decodeThrough(this.#range.chunks(start, end), decoder, refuse), start);
    return end;
  }

  async *#readGzip(start: number): AsyncGenerator<RamdiskEntry, number> {
    let end = start;
    const member = readGzipMember(this.#range, start, this.#refuse);
    const content = (async function* () {
      end = yield* member;
    })();
    yield* this.#readCompressed(content, start);
    return end;
  }

  /** Archives to the end of what was compressed together; there is at least one. */
  async *#readCompressed(content: AsyncIterable<Uint8Array>, start: number): AsyncGenerator<RamdiskEntry> {
    const refuse = (why: string, cause?: unknown): Error =>
      this.#refuse(`${why} (byte ${source.position} of what is compressed there)`, start, cause);
    await using source = new ByteSource(this.#count(content, start), refuse);
    do {
      if (source.position % 4 !== 0) throw refuse("an archive does not begin at a multiple of 4");
      yield* this.#readArchive(source, refuse, () => start);
      await source.skipZeros();
    } while (!(await source.atEnd()));
  }

  async *#readArchive(
    source: ByteSource,
    refuse: (why: string, cause?: unknown) => Error,
    place: () => number,
  ): AsyncGenerator<RamdiskEntry> {
    if (this.#archives >= this.#limits.maxArchives)
      throw this.#limit(`it has more than ${this.#limits.maxArchives} archives`, place());
    for await (const entry of readNewcArchive(source, refuse)) {
      this.#signal?.throwIfAborted();
      this.#entries += 1;
      if (this.#entries > this.#limits.maxEntries)
        throw this.#limit(`it has more than ${this.#limits.maxEntries} entries`, place());
      yield await describe(entry, this.#archives);
    }
    this.#archives += 1;
  }

  async *#count(chunks: AsyncIterable<Uint8Array>, start: number): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      this.#unpackedBytes += chunk.length;
      if (this.#unpackedBytes > this.#limits.maxUnpackedBytes)
        throw this.#limit(`it has more than ${this.#limits.maxUnpackedBytes} bytes once unpacked`, start);
      yield chunk;
    }
  }

  readonly #refuse = (why: string, offset: number, cause?: unknown): KitError =>
    new KitError("E_RAMDISK_INVALID", `the ramdisk of ${this.#path} is not valid at byte ${offset}: ${why}`, {
      cause,
      details: { offset },
    });

  #limit(why: string, offset: number): KitError {
    const message = `the ramdisk of ${this.#path} is too large at byte ${offset}: ${why}`;
    return new KitError("E_RAMDISK_LIMIT", message, { details: { offset } });
  }
}

function countZeros(bytes: Buffer): number {
  const index = bytes.findIndex((byte) => byte !== 0);
  return index < 0 ? bytes.length : index;
}

async function describe(entry: NewcEntry, archive: number): Promise<RamdiskEntry> {
  const { name, target, content, nameBytes: _nameBytes, checksum: _checksum, ...attributes } = entry;
  return {
    ...attributes,
    path: toPrintablePath(name),
    pathBytes: name,
    archive,
    sha256: entry.type === "file" ? await digestOf(content) : undefined,
    linkTarget: target === undefined ? undefined : toPrintablePath(target),
  };
}

async function digestOf(content: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash("sha256");
  for await (const part of content) hash.update(part);
  return hash.digest("hex");
}
