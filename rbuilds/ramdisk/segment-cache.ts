/**
 * Compressed segments, named by what they are made from.
 *
 *   <cacheDir>/ramdisks/<key>.cpio.zst    the frame; <key>.cpio where it is not compressed
 *   <cacheDir>/ramdisks/<key>.json        its size and sums; written after it, so that a file with one is whole
 *
 * Both are replaced in one step. Two builds that make the same segment write the same bytes.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";

import { writeFileAtomic } from "../../core/atomic-file.ts";
import { isErrno, toKitError } from "../../core/errors.ts";
import type { BlobStore } from "../blob-store.ts";
import { canonicalJson } from "../canonical-json.ts";
import type { PreparedFile } from "../prepared-file.ts";
import { checkSegment, type Segment, segmentRecords } from "./segment.ts";
import {
  type RamdiskCompression,
  SEGMENT_RECIPE,
  writeSegment,
  type WriteSegmentOptions,
  type WrittenSegment,
} from "./segment-writer.ts";

const FOLDER = "ramdisks";
const MAX_RECORD_BYTES = 1024;

export interface SegmentCacheOptions {
  /** "zstd" unless told. */
  readonly compression?: RamdiskCompression | undefined;
  readonly blobs: BlobStore;
  readonly cacheDir: string;
  readonly signal?: AbortSignal | undefined;
}

export interface PreparedSegment extends PreparedFile {
  /** Of the file, lower-case hex. */
  readonly sha256: string;
  /** Of the archive. */
  readonly unpackedBytes: number;
  readonly isReused: boolean;
}

/**
 * The segment from the cache, or made now.
 * @throws as checkSegment and writeSegment; E_DISK_FULL
 */
export async function prepareSegment(
  segment: Segment,
  options: SegmentCacheOptions,
): Promise<PreparedSegment> {
  checkSegment(segment);
  const folder = join(options.cacheDir, FOLDER);
  const compression = options.compression ?? "zstd";
  const key = segmentKey(segment, compression);
  const path = join(folder, compression === "zstd" ? `${key}.cpio.zst` : `${key}.cpio`);
  const recordPath = join(folder, `${key}.json`);
  const known = await readRecord(recordPath);
  if (known !== undefined && (await sizeOf(path)) === known.sizeBytes)
    return { path, ...known, isReused: true };
  await mkdir(folder, { recursive: true });
  const written = await writeWhole(segment, path, { ...options, compression });
  await writeFileAtomic(recordPath, `${canonicalJson(written)}\n`, { mode: 0o644 });
  return { path, ...written, isReused: false };
}

/** SHA-256 over all that the frame's bytes depend on. */
function segmentKey(segment: Segment, compression: RamdiskCompression): string {
  const hash = createHash("sha256");
  const program = compression === "zstd" ? `zstd ${process.versions["zstd"]}` : compression;
  hash.update(`recipe ${SEGMENT_RECIPE}\n${program}\n`);
  for (const { head, body } of segmentRecords(segment)) {
    hash.update(head);
    if (Buffer.isBuffer(body)) hash.update(body);
    else if (body !== undefined) hash.update(body.digest, "hex");
  }
  return hash.digest("hex");
}

async function writeWhole(
  segment: Segment,
  path: string,
  options: WriteSegmentOptions,
): Promise<WrittenSegment> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    const written = await writeNew(segment, temporary, options);
    await rename(temporary, path);
    return written;
  } catch (error) {
    await rm(temporary, { force: true });
    throw isErrno(error, "ENOSPC") ? toKitError(error) : error;
  }
}

async function writeNew(
  segment: Segment,
  path: string,
  options: WriteSegmentOptions,
): Promise<WrittenSegment> {
  await using file = await open(path, "wx", 0o644);
  return await writeSegment(segment, file, options);
}

/** Undefined if there is no record or one that this program would not have written. */
async function readRecord(path: string): Promise<WrittenSegment | undefined> {
  try {
    await using file = await open(path, "r");
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_RECORD_BYTES), 0, MAX_RECORD_BYTES, 0);
    return decodeRecord(buffer.toString("utf8", 0, bytesRead));
  } catch (error) {
    if (isErrno(error, "ENOENT") || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function decodeRecord(text: string): WrittenSegment | undefined {
  const value: unknown = JSON.parse(text);
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const { sizeBytes, crc32, sha256, unpackedBytes }: Partial<Record<string, unknown>> = { ...value };
  if (typeof sizeBytes !== "number" || typeof crc32 !== "number" || typeof unpackedBytes !== "number")
    return undefined;
  if (typeof sha256 !== "string" || !/^[0-9a-f]{64}$/.test(sha256)) return undefined;
  if (![sizeBytes, crc32, unpackedBytes].every((number) => Number.isSafeInteger(number) && number >= 0))
    return undefined;
  return { sizeBytes, crc32, sha256, unpackedBytes };
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    const info = await stat(path);
    return info.isFile() ? info.size : undefined;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}
