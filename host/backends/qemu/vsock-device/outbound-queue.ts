/** What the host wrote and the guest's ring has not taken yet: one write of the stream at a time. */
import type { DescriptorChain } from "./descriptor-chain.ts";

export type WriteCallback = (error?: Error | null) => void;

export class OutboundQueue {
  #chunks: readonly Uint8Array[] = [];
  #chunk = 0;
  /** Bytes of the first chunk that are gone. */
  #offset = 0;
  #sizeBytes = 0;
  #callback: WriteCallback | undefined;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Called only when everything before was taken. */
  put(chunks: readonly Uint8Array[], callback: WriteCallback): void {
    this.#chunks = chunks;
    this.#chunk = 0;
    this.#offset = 0;
    this.#sizeBytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    this.#callback = callback;
    if (this.#sizeBytes === 0) this.#settle(null);
  }

  /** Moves bytes into a chain; the caller has seen that there are as many, and room for them. */
  moveInto(chain: DescriptorChain, sizeBytes: number): void {
    this.#sizeBytes -= sizeBytes;
    for (let left = sizeBytes; left > 0;) {
      const chunk = this.#chunks[this.#chunk];
      if (chunk === undefined) throw new RangeError("beyond the end of what was written");
      const part = Math.min(left, chunk.length - this.#offset);
      chain.write(chunk, this.#offset, part);
      this.#offset += part;
      left -= part;
      if (this.#offset < chunk.length) continue;
      this.#chunk += 1;
      this.#offset = 0;
    }
    if (this.#sizeBytes === 0) this.#settle(null);
  }

  /** Forgets what is left; the write fails with `error`. */
  drop(error: Error): void {
    this.#sizeBytes = 0;
    this.#settle(error);
  }

  /** Not at once: whoever wrote may throw, or write again, and neither may happen within the work on a ring. */
  #settle(error: Error | null): void {
    const callback = this.#callback;
    this.#callback = undefined;
    this.#chunks = [];
    if (callback !== undefined) process.nextTick(callback, error);
  }
}
