/**
 * File contents by their SHA-256, shared by every image of a cache. Blobs are immutable (0444) and appear whole: they
 * are written under another name in the same directory and renamed.
 *
 *   <directory>/sha256/ab/abcdef...     two characters of the digest, then all of it
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";

import { isErrno, KitError, toKitError } from "../core/errors.ts";

export interface StoredBlob {
  /** Lower-case hex SHA-256. */
  readonly digest: string;
  readonly size: number;
}

export interface PutOptions {
  readonly signal?: AbortSignal | undefined;
  /** More bytes are refused with E_IMAGE_BLOB_TOO_LARGE. */
  readonly maxBytes?: number | undefined;
}

export interface BlobStore {
  /** @throws E_IMAGE_BLOB_TOO_LARGE, E_DISK_FULL */
  put(content: Uint8Array | AsyncIterable<Uint8Array>, options?: PutOptions): Promise<StoredBlob>;
  /** Imports a file of the host by copy; blobs are owned by the store. @throws as put, and the error of the system. */
  putFile(path: string, options?: PutOptions): Promise<StoredBlob>;
  has(digest: string): Promise<boolean>;
  /** Where the blob lies, whether it exists or not. */
  readonly path: (digest: string) => string;
  /** @throws E_IMAGE_BLOB_MISSING, E_IMAGE_BLOB_TOO_LARGE */
  read(digest: string, maxBytes: number): Promise<Buffer>;
}

const READ_BYTES = 256 * 1024;
const DIGEST = /^[0-9a-f]{64}$/;

/** Opens a store, making its directory where it is absent. */
export async function openBlobStore(directory: string): Promise<BlobStore> {
  await mkdir(join(directory, "sha256"), { recursive: true });
  const path = (digest: string): string => blobPath(directory, digest);
  return {
    path,
    has: async (digest) => (await sizeOf(path(digest))) !== undefined,
    put: async (content, options) => await putBlob(directory, toChunks(content), options ?? {}),
    putFile: async (file, options) => await putBlob(directory, readChunks(file), options ?? {}),
    read: async (digest, maxBytes) => await readBlob(path(digest), digest, maxBytes),
  };
}

function blobPath(directory: string, digest: string): string {
  if (!DIGEST.test(digest)) throw new TypeError(`not a digest: ${JSON.stringify(digest)}`);
  return join(directory, "sha256", digest.slice(0, 2), digest);
}

function toChunks(
  content: Uint8Array | AsyncIterable<Uint8Array>,
): AsyncIterable<Uint8Array> | Iterable<Uint8Array> {
  return content instanceof Uint8Array ? [content] : content;
}

/** Opens the file when it is first read: a stream would open it before, and nobody would hear that it failed. */
async function* readChunks(path: string): AsyncGenerator<Uint8Array> {
  await using file = await open(path, "r");
  for (;;) {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(READ_BYTES), 0, READ_BYTES);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}

async function putBlob(
  directory: string,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: PutOptions,
): Promise<StoredBlob> {
  const temporary = join(directory, "sha256", `.${randomBytes(8).toString("hex")}.tmp`);
  try {
    const blob = await writeHashed(temporary, chunks, options);
    const target = blobPath(directory, blob.digest);
    if ((await sizeOf(target)) === blob.size) {
      await rm(temporary);
      return blob;
    }
    await mkdir(dirname(target), { recursive: true });
    await rename(temporary, target);
    return blob;
  } catch (error) {
    await rm(temporary, { force: true });
    throw isErrno(error, "ENOSPC") ? toKitError(error) : error;
  }
}

async function writeHashed(
  path: string,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: PutOptions,
): Promise<StoredBlob> {
  const maxBytes = options.maxBytes ?? Number.MAX_SAFE_INTEGER;
  const hash = createHash("sha256");
  let size = 0;
  await using file = await open(path, "wx", 0o444);
  for await (const chunk of chunks) {
    options.signal?.throwIfAborted();
    size += chunk.length;
    if (size > maxBytes) throw tooLarge(maxBytes);
    hash.update(chunk);
    await file.writeFile(chunk);
  }
  // Whatever the caller's umask is: the root of another user namespace reads blobs too.
  await file.chmod(0o444);
  return { digest: hash.digest("hex"), size };
}

async function readBlob(path: string, digest: string, maxBytes: number): Promise<Buffer> {
  const size = await sizeOf(path);
  if (size === undefined) throw new KitError("E_IMAGE_BLOB_MISSING", `the blob store has no ${digest}`);
  if (size > maxBytes) throw tooLarge(maxBytes);
  await using file = await open(path, "r");
  return await file.readFile();
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

function tooLarge(maxBytes: number): KitError {
  return new KitError("E_IMAGE_BLOB_TOO_LARGE", `content has more than ${maxBytes} bytes`);
}
