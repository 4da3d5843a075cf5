/**
 * File contents by their SHA-256, shared by every image of a cache. Blobs are immutable (0444) and appear whole: they
 * are written under another name in the same directory and renamed.
 *
 *   <directory>/sha256/ab/abcdef...     two characters of the digest, then all of it
 */
import { createHash, randomBytes } from "node:crypto";
import { type FileHandle, mkdir, open, rename, rm, stat } from "node:fs/promises";
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
const SMALL_BYTES = 32 * 1024;
const DIGEST = /^[0-9a-f]{64}$/;

/** Opens a store, making its directory where it is absent. */
export async function openBlobStore(directory: string): Promise<BlobStore> {
  await mkdir(join(directory, "sha256"), { recursive: true });
  const path = (digest: string): string => blobPath(directory, digest);
  return {
    path,
    has: async (digest) => (await sizeOf(path(digest))) !== undefined,
    put: async (content, options = {}) =>
      content instanceof Uint8Array
        ? await putBytes(directory, content, options)
        : await putBlob(directory, content, options),
    putFile: async (file, options) => await putFile(directory, file, options ?? {}),
    read: async (digest, maxBytes) => await readBlob(path(digest), digest, maxBytes),
  };
}

function blobPath(directory: string, digest: string): string {
  if (!DIGEST.test(digest)) throw new TypeError(`not a digest: ${JSON.stringify(digest)}`);
  return join(directory, "sha256", digest.slice(0, 2), digest);
}

/** Small files are often the same or empty, and a folder may have hundreds of thousands of them. */
async function putFile(directory: string, path: string, options: PutOptions): Promise<StoredBlob> {
  await using file = await open(path, "r");
  const head = await readUpTo(file, SMALL_BYTES);
  return head.length < SMALL_BYTES
    ? await putBytes(directory, head, options)
    : await putBlob(directory, readOn(file, head), options);
}

/** Fewer bytes than asked for only at the end of the file. */
async function readUpTo(file: FileHandle, maxBytes: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(maxBytes);
  for (let filled = 0; filled < maxBytes;) {
    const { bytesRead } = await file.read(buffer, filled, maxBytes - filled);
    if (bytesRead === 0) return buffer.subarray(0, filled);
    filled += bytesRead;
  }
  return buffer;
}

async function* readOn(file: FileHandle, head: Buffer): AsyncGenerator<Uint8Array> {
  yield head;
  for (;;) {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(READ_BYTES), 0, READ_BYTES);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}

/** Writes nothing where the blob is there. */
async function putBytes(directory: string, bytes: Uint8Array, options: PutOptions): Promise<StoredBlob> {
  const size = bytes.length;
  const maxBytes = options.maxBytes ?? Number.MAX_SAFE_INTEGER;
  if (size > maxBytes) throw tooLarge(maxBytes);
  const digest = createHash("sha256").update(bytes).digest("hex");
  if ((await sizeOf(blobPath(directory, digest))) === size) return { digest, size };
  return await putBlob(directory, [bytes], options);
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
