/** Brings bytes into a folder of the store, and tells digest and size of what is then there. */
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { copyFile, type FileHandle, link, lstat, open, rm } from "node:fs/promises";

import { isErrno, KitError } from "../../core/errors.ts";
import { storeStep, userFileStep } from "./store-refusals.ts";

const CHUNK_BYTES = 1024 * 1024;

export interface TakenFile {
  /** 64 lower-case hex digits. */
  readonly digest: string;
  readonly sizeBytes: number;
}

export interface IntakeOptions {
  /** The file itself becomes the store's where that is possible; its old name is left to the caller. */
  readonly mayShare: boolean;
  /** More bytes are refused with E_STORE_DIGEST: it is not the file that was announced. */
  readonly maxBytes: number;
  readonly signal?: AbortSignal | undefined;
  /** Bytes so far. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
}

/** @throws E_STORE_FILE, E_STORE_DIGEST, E_DISK_FULL, E_STORE_ACCESS, the signal's reason */
export async function takeFile(source: string, target: string, options: IntakeOptions): Promise<TakenFile> {
  const info = await userFileStep(source, async () => await lstat(source));
  const isThere =
    info.isFile() &&
    ((options.mayShare && (await tryLink(source, target))) || (await tryClone(source, target)));
  // Opening a pipe must not wait for its other end.
  const flags = constants.O_RDONLY | constants.O_NONBLOCK;
  await using file = await userFileStep(source, async () => await open(isThere ? target : source, flags));
  if (!(await file.stat()).isFile()) throw new KitError("E_STORE_FILE", `${source} is no file`);
  const chunks = readChunks(file, source);
  return isThere ? await measure(chunks, options) : await writeMeasured(target, chunks, options);
}

/** Writes a new file of the store. @throws as takeFile, and what `chunks` throws */
export async function writeMeasured(
  target: string,
  chunks: AsyncIterable<Uint8Array>,
  options: Omit<IntakeOptions, "mayShare">,
): Promise<TakenFile> {
  await using file = await storeStep(target, async () => await open(target, "wx", 0o600));
  const taken = await measure(chunks, options, async (chunk) => {
    await storeStep(target, async () => await file.writeFile(chunk));
  });
  await storeStep(target, async () => await file.datasync());
  return taken;
}

async function measure(
  chunks: AsyncIterable<Uint8Array>,
  { signal, maxBytes, onProgress }: Omit<IntakeOptions, "mayShare">,
  write?: (chunk: Uint8Array) => Promise<void>,
): Promise<TakenFile> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  for await (const chunk of chunks) {
    signal?.throwIfAborted();
    sizeBytes += chunk.length;
    if (sizeBytes > maxBytes) throw new KitError("E_STORE_DIGEST", `it has more than ${maxBytes} bytes`);
    hash.update(chunk);
    await write?.(chunk);
    onProgress?.(sizeBytes);
  }
  return { digest: hash.digest("hex"), sizeBytes };
}

/** One buffer for all: each chunk must be done with before the next is asked for. */
export async function* readChunks(file: FileHandle, path: string): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  for (;;) {
    const { bytesRead } = await userFileStep(path, async () => await file.read(buffer, 0, CHUNK_BYTES, null));
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}

/** A second name for the file, so that nothing has changed where the rest fails. */
async function tryLink(source: string, target: string): Promise<boolean> {
  try {
    await link(source, target);
    return true;
  } catch (error) {
    if (isErrno(error)) return false; // another file system, or one without links
    throw error;
  }
}

/** Shares the blocks on file systems that can. */
async function tryClone(source: string, target: string): Promise<boolean> {
  try {
    await copyFile(source, target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (error) {
    if (!isErrno(error)) throw error;
    await rm(target, { force: true });
    return false;
  }
}
