/**
 * The file that an image is written to. Large blocks go to the disk past the kernel's cache where the file system can
 * do that: an image is seldom read again at once, and filling the cache takes more time than measuring does.
 */
import { constants, type FileHandle, open } from "node:fs/promises";

import { isErrno } from "../../core/errors.ts";
import { ALIGNMENT_BYTES } from "./block-memory.ts";

export class ImageFile implements AsyncDisposable {
  /** Through the cache. */
  readonly #plain: FileHandle;
  #direct: FileHandle | undefined;

  constructor(plain: FileHandle, direct: FileHandle | undefined) {
    this.#plain = plain;
    this.#direct = direct;
  }

  /**
   * Writes the first bytes of a block's memory, which must be aligned, to an aligned position. More may be written
   * than asked for, up to the alignment: the last block needs `finish`.
   */
  async writeBlock(memory: Buffer, sizeBytes: number, position: number): Promise<void> {
    const aligned = Math.ceil(sizeBytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
    memory.fill(0, sizeBytes, aligned);
    const done = await this.#writeDirect(memory.subarray(0, aligned), position);
    if (done < sizeBytes) await writeAll(this.#plain, memory.subarray(done, sizeBytes), position + done);
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    await writeAll(this.#plain, bytes, position);
  }

  /** Cuts the file to its size and brings it to the disk. */
  async finish(sizeBytes: number): Promise<void> {
    await this.#plain.truncate(sizeBytes);
    await this.#plain.sync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#direct?.close();
    await this.#plain.close();
  }

  /** @returns how many bytes were written; the rest is left to the cache */
  async #writeDirect(bytes: Buffer, position: number): Promise<number> {
    try {
      return (await this.#direct?.write(bytes, 0, bytes.length, position))?.bytesWritten ?? 0;
    } catch (error) {
      if (!isErrno(error, "EINVAL")) throw error;
      return 0;
    }
  }
}

/** Makes a new file. @throws the error of the system */
export async function createImageFile(path: string, mode: number): Promise<ImageFile> {
  const plain = await open(path, "wx", mode);
  try {
    return new ImageFile(plain, await openDirect(path));
  } catch (error) {
    await plain.close();
    throw error;
  }
}

/** @returns undefined where the file system knows only its cache */
async function openDirect(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, constants.O_WRONLY | constants.O_DIRECT);
  } catch (error) {
    if (isErrno(error, "EINVAL")) return undefined;
    throw error;
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
