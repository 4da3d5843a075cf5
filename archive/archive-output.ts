/**
 * Bytes of an archive on their way into a stream. Two halves of one buffer: while one is being written the other is
 * filled, by small headers and by reads straight from files, so that neither many small files nor a large one cost a
 * copy or a system call per piece.
 */
import { Socket } from "node:net";
import type { Writable } from "node:stream";

import { KitError } from "../core/errors.ts";

const HALF_BYTES = 512 * 1024;

interface PendingWrite {
  readonly promise: Promise<void>;
  readonly settle: (error?: Error) => void;
}

/** Belongs to one archive. It does not end the stream, and on disposal takes its listeners away. */
export class ArchiveOutput implements Disposable {
  readonly #output: Writable;
  readonly #signal: AbortSignal;
  /** Sockets are done with bytes when they call back; other streams may keep them, so they get fresh ones. */
  readonly #isReusing: boolean;
  #filling: Buffer = Buffer.allocUnsafeSlow(HALF_BYTES);
  #spare: Buffer | undefined;
  #filled = 0;
  #pending: PendingWrite | undefined;
  #failure: Error | undefined;

  constructor(output: Writable, signal: AbortSignal) {
    this.#output = output;
    this.#signal = signal;
    this.#isReusing = output instanceof Socket;
    output.on("error", this.#onError);
    output.on("close", this.#onClose);
    signal.addEventListener("abort", this.#onAbort);
  }

  /** Bytes that are copied, for headers; any length. */
  async append(bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.length;) {
      const room = await this.room();
      const part = bytes.subarray(offset, offset + room.length);
      room.set(part);
      this.filled(part.length);
      offset += part.length;
    }
  }

  async appendZeros(length: number): Promise<void> {
    for (let left = length; left > 0;) {
      const room = (await this.room()).subarray(0, left);
      room.fill(0);
      this.filled(room.length);
      left -= room.length;
    }
  }

  /** At least one byte to be filled; `filled` says how many were. */
  async room(): Promise<Buffer> {
    this.#throwIfFailed();
    if (this.#filled === this.#filling.length) await this.#startWrite();
    return this.#filling.subarray(this.#filled);
  }

  filled(length: number): void {
    this.#filled += length;
  }

  /** Everything is with the system when this returns. */
  async flush(): Promise<void> {
    await this.#startWrite();
    await this.#pending?.promise;
    this.#throwIfFailed();
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#output.off("error", this.#onError);
    this.#output.off("close", this.#onClose);
  }

  /** Writes what is filled, once the other half is through, and goes on in that one. */
  async #startWrite(): Promise<void> {
    await this.#pending?.promise;
    this.#throwIfFailed();
    if (this.#filled === 0) return;
    const full = this.#filling;
    this.#pending = this.#write(full.subarray(0, this.#filled));
    this.#filling = this.#spare ?? Buffer.allocUnsafeSlow(HALF_BYTES);
    this.#spare = this.#isReusing ? full : undefined;
    this.#filled = 0;
  }

  #write(bytes: Uint8Array): PendingWrite {
    const { promise, resolve } = Promise.withResolvers<void>();
    // Never rejects: nobody may be waiting yet when it fails.
    const settle = (error?: Error): void => {
      this.#failure ??= error;
      resolve();
    };
    const pending = { promise, settle };
    this.#output.write(bytes, (error) =>
      settle(error === null || error === undefined ? undefined : lost(error)),
    );
    return pending;
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#pending?.settle(error);
  }

  #throwIfFailed(): void {
    this.#signal.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#output.destroyed || this.#output.writableEnded) throw lost();
  }

  readonly #onError = (error: Error): void => this.#fail(lost(error));
  readonly #onClose = (): void => this.#fail(lost());
  readonly #onAbort = (): void => this.#pending?.settle();
}

function lost(cause?: unknown): KitError {
  return new KitError("E_ARCHIVE_STREAM", "the side that takes the copy ended before it had everything", {
    cause,
  });
}
