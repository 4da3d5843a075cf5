/** Exact reads from a stream of chunks, without reading ahead more than one chunk. It owns the stream. */
export class ByteQueue implements AsyncDisposable {
  readonly #iterator: AsyncIterator<Uint8Array>;
  readonly #refuse: (why: string) => Error;
  #chunk: Uint8Array = new Uint8Array(0);
  #position = 0;

  /** @param refuse makes the error for a stream that ends too early. */
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
      this.#chunk = next.value;
    }
    return false;
  }

  /** Exactly `length` bytes. */
  async take(length: number): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    for await (const part of this.content(length)) parts.push(part);
    return Buffer.concat(parts);
  }

  async skip(length: number): Promise<void> {
    for await (const part of this.content(length)) void part;
  }

  /** The next bytes as they come: at least one, at most `length`. */
  async some(length: number): Promise<Uint8Array> {
    if (await this.atEnd()) throw this.#refuse(`it ends ${length} bytes too early`);
    const part = this.#chunk.subarray(0, length);
    this.#chunk = this.#chunk.subarray(part.length);
    this.#position += part.length;
    return part;
  }

  /** The next `length` bytes as they come; a reader that stops early leaves the rest in the queue. */
  async *content(length: number): AsyncGenerator<Uint8Array> {
    for (let left = length; left > 0;) {
      const part = await this.some(left);
      left -= part.length;
      yield part;
    }
  }

  /** Ends the stream, so that a file or decompressor behind it is closed also when reading stops early. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#iterator.return?.();
  }

  /** Reads to the end, so that a decompressor behind the stream checks its trailer. */
  async drain(): Promise<void> {
    while (!(await this.atEnd())) {
      this.#position += this.#chunk.length;
      this.#chunk = new Uint8Array(0);
    }
  }
}
