/**
 * Chunks of a stream, taken as they come and held back when there are enough. Unlike the stream's own iterator it
 * copies nothing together, ends a wait at once when the signal aborts, and leaves the stream to its owner.
 */
import type { Readable } from "node:stream";

import { KitError } from "../core/errors.ts";

/** What is held before the stream is paused; a stream may give one chunk and its own buffer more. */
const MAX_HELD_BYTES = 1024 * 1024;

export class ArchiveInput implements AsyncIterableIterator<Uint8Array>, Disposable {
  readonly #input: Readable;
  readonly #signal: AbortSignal;
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  #isEnded = false;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(input: Readable, signal: AbortSignal) {
    this.#input = input;
    this.#signal = signal;
    input.on("end", this.#onEnd);
    input.on("error", this.#onError);
    input.on("close", this.#onClose);
    signal.addEventListener("abort", this.#onAbort);
    if (input.readableEnded) this.#isEnded = true;
    else if (input.destroyed) this.#failure = lost(input.errored ?? undefined);
    input.on("data", this.#onData);
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    for (;;) {
      this.#signal.throwIfAborted();
      const chunk = this.#held.shift();
      if (chunk !== undefined) {
        this.#heldBytes -= chunk.length;
        if (this.#heldBytes < MAX_HELD_BYTES / 2 && this.#input.isPaused()) this.#input.resume();
        return { done: false, value: chunk };
      }
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#isEnded) return { done: true, value: undefined };
      await this.#change();
    }
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.dispose](): void {
    this.#input.pause();
    this.#input.off("data", this.#onData);
    this.#input.off("end", this.#onEnd);
    this.#input.off("error", this.#onError);
    this.#input.off("close", this.#onClose);
    this.#signal.removeEventListener("abort", this.#onAbort);
  }

  async #change(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    await promise;
  }

  readonly #onData = (chunk: Uint8Array): void => {
    this.#held.push(chunk);
    this.#heldBytes += chunk.length;
    if (this.#heldBytes >= MAX_HELD_BYTES) this.#input.pause();
    this.#wake?.();
  };

  readonly #onEnd = (): void => {
    this.#isEnded = true;
    this.#wake?.();
  };

  readonly #onError = (error: Error): void => {
    this.#failure ??= lost(error);
    this.#wake?.();
  };

  readonly #onClose = (): void => {
    if (!this.#isEnded) this.#failure ??= lost();
    this.#wake?.();
  };

  readonly #onAbort = (): void => this.#wake?.();
}

function lost(cause?: unknown): KitError {
  return new KitError("E_ARCHIVE_STREAM", "the side that sends the copy ended before it was whole", {
    cause,
  });
}
