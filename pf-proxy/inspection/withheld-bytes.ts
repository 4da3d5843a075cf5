/**
 * Bytes of a stream that may not pass yet, in one piece. Whoever appends keeps the bound. A single chunk is kept as it
 * is; of more chunks each byte is copied three times on average, however small they are.
 */
export class WithheldBytes {
  #buffer: Buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;

  get lengthBytes(): number {
    return this.#end - this.#start;
  }

  /** Everything withheld. */
  get bytes(): Buffer {
    return this.#buffer.subarray(this.#start, this.#end);
  }

  append(chunk: Buffer): void {
    if (this.lengthBytes === 0) {
      [this.#buffer, this.#start, this.#end] = [chunk, 0, chunk.length];
      return;
    }
    // The chunk of another has no room behind its end.
    if (this.#end + chunk.length > this.#buffer.length) this.#grow(chunk.length);
    chunk.copy(this.#buffer, this.#end);
    this.#end += chunk.length;
  }

  /** The first bytes, no longer withheld; nothing of them is written to later. */
  take(sizeBytes: number): readonly Buffer[] {
    if (sizeBytes === 0) return [];
    const taken = this.#buffer.subarray(this.#start, this.#start + sizeBytes);
    this.#start += sizeBytes;
    if (this.lengthBytes === 0) this.#buffer = Buffer.alloc(0);
    return [taken];
  }

  takeAll(): readonly Buffer[] {
    return this.take(this.lengthBytes);
  }

  #grow(moreBytes: number): void {
    const kept = this.bytes;
    const larger = Buffer.allocUnsafeSlow(Math.max(512, 2 * (kept.length + moreBytes)));
    kept.copy(larger);
    [this.#buffer, this.#start, this.#end] = [larger, 0, kept.length];
  }
}
