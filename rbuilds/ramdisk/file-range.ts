/** A part of a file, read at any place of it. Offsets count from the beginning of the part. */
import type { FileHandle } from "node:fs/promises";

const WINDOW_BYTES = 256 * 1024;

export interface FileRangeOptions {
  /** Where the part begins in the file. */
  readonly offset: number;
  readonly sizeBytes: number;
  readonly signal?: AbortSignal | undefined;
  /** Makes the error for a file that ends before its part does. */
  readonly refuse: (why: string, offset: number) => Error;
}

export class FileRange {
  readonly sizeBytes: number;
  readonly #file: FileHandle;
  readonly #options: FileRangeOptions;
  #window: Buffer = Buffer.alloc(0);
  #windowStart = 0;

  constructor(file: FileHandle, options: FileRangeOptions) {
    this.sizeBytes = options.sizeBytes;
    this.#file = file;
    this.#options = options;
  }

  /** What follows `offset`: at least `minimum` bytes, or all that are left of the part. Never changed later. */
  async at(offset: number, minimum = 1): Promise<Buffer> {
    const wanted = Math.min(minimum, this.sizeBytes - offset);
    const start = offset - this.#windowStart;
    if (start >= 0 && start + wanted <= this.#window.length) return this.#window.subarray(start);
    this.#window = await this.#load(offset, Math.min(WINDOW_BYTES, this.sizeBytes - offset));
    this.#windowStart = offset;
    return this.#window;
  }

  /** The bytes from `start` to `end`. */
  async *chunks(start: number, end = this.sizeBytes): AsyncGenerator<Buffer> {
    for (let offset = start; offset < end;) {
      const chunk = (await this.at(offset)).subarray(0, end - offset);
      offset += chunk.length;
      yield chunk;
    }
  }

  async #load(offset: number, length: number): Promise<Buffer> {
    const { signal, refuse, offset: origin } = this.#options;
    const bytes = Buffer.allocUnsafe(length);
    for (let filled = 0; filled < length;) {
      signal?.throwIfAborted();
      const { bytesRead } = await this.#file.read(bytes, filled, length - filled, origin + offset + filled);
      if (bytesRead === 0) throw refuse("the file ends before the ramdisk does", offset + filled);
      filled += bytesRead;
    }
    return bytes;
  }
}
