/**
 * A stream of chunks read piece by piece, at most one chunk ahead. Headers by the hundred thousand come out of it
 * without a promise for each piece that is already there.
 */
export class ByteSource implements AsyncDisposable {
  readonly #iterator: AsyncIterator<Uint8Array>;
  readonly #refuse: (why: string) => Error;
  #chunk: Buffer = Buffer.alloc(0);
  #position = 0;

  /** It owns the stream. @param refuse makes the error for a stream that ends too early. */
  constructor(stream: AsyncIterable<Uint8Array>, refuse: (why: string) => Error) {
    this.#iterator = stream[Symbol.asyncIterator]();
    this.#refuse = refuse;
  }

  /** Bytes handed out or skipped so far. */
  get position(): number {
    return this.#position;
  }

  /** True if not a byte is left. */
  async atEnd(): Promise<boolean> {
    while (this.#chunk.length === 0) {
      const next = await this.#iterator.next();
      if (next.done === true) return true;
      const { buffer, byteOffset, length } = next.value;
      this.#chunk = Buffer.from(buffer, byteOffset, length);
    }
    return false;
  }

  /** Exactly `length` bytes; the caller has bounded the length. */
  async take(length: number): Promise<Buffer> {
    if (this.#chunk.length >= length) return this.#cut(length);
    const bytes = Buffer.alloc(length);
    for (let filled = 0; filled < length;) {
      const part = await this.some(length - filled);
      bytes.set(part, filled);
      filled += part.length;
    }
    return bytes;
  }

  /** The next bytes as they come: at least one, at most `length`. */
  async some(length: number): Promise<Buffer> {
    if (this.#chunk.length === 0 && (await this.atEnd()))
      throw this.#refuse(`it ends at least ${length} bytes too early`);
    return this.#cut(Math.min(length, this.#chunk.length));
  }

  /** Passes over zeros up to something else or the end. */
  async skipZeros(): Promise<void> {
    while (!(await this.atEnd())) {
      const index = this.#chunk.findIndex((byte) => byte !== 0);
      this.#cut(index < 0 ? this.#chunk.length : index);
      if (index >= 0) return;
    }
  }

  #cut(length: number): Buffer {
    const part = this.#chunk.subarray(0, length);
    this.#chunk = this.#chunk.subarray(length);
    this.#position += length;
    return part;
  }

  /** Ends the stream, so that a file or decompressor behind it is closed also when reading stops early. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#iterator.return?.();
  }
}
