/**
 * A connection with the guest as a stream: half-open connections allowed, paused until it is read. It behaves as a
 * net.Socket does: the guest's reset is an error ECONNRESET, writing to a guest that does not receive any more EPIPE.
 */
import { Duplex } from "node:stream";

import type { WriteCallback } from "./outbound-queue.ts";

const WRITE_BUFFER_BYTES = 64 * 1024;

/** What the connection behind the stream hears. */
export interface SocketOwner {
  /** The reader has room for more. */
  onRead(): void;
  /** Calls back when the guest's ring has taken all of it. */
  onWrite(chunks: readonly Uint8Array[], callback: WriteCallback): void;
  /** Nothing more will be written. */
  onFinish(callback: WriteCallback): void;
  /** @param isClean both directions had ended, so nothing is lost. */
  onDestroy(isClean: boolean): void;
}

export class VsockSocket extends Duplex {
  readonly #owner: SocketOwner;
  #mustReset = false;

  constructor(owner: SocketOwner) {
    // At most one block waits in the stream itself: everything behind it stays where it is counted against the window.
    super({ allowHalfOpen: true, readableHighWaterMark: 1, writableHighWaterMark: WRITE_BUFFER_BYTES });
    this.#owner = owner;
  }

  /** Ends the connection with a reset, even if both directions had ended. */
  resetAndDestroy(): this {
    this.#mustReset = true;
    return this.destroy();
  }

  override _read(): void {
    this.#owner.onRead();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: WriteCallback): void {
    this.#owner.onWrite([chunk], callback);
  }

  override _writev(entries: readonly { readonly chunk: Buffer }[], callback: WriteCallback): void {
    this.#owner.onWrite(
      entries.map(({ chunk }) => chunk),
      callback,
    );
  }

  override _final(callback: WriteCallback): void {
    this.#owner.onFinish(callback);
  }

  override _destroy(error: Error | null, callback: WriteCallback): void {
    const hasEnded = this.readableEnded && this.writableFinished;
    this.#owner.onDestroy(error === null && hasEnded && !this.#mustReset);
    callback(error);
  }
}

/** An error as Node makes it of a system call that failed. */
export function socketError(code: "ECONNRESET" | "EPIPE", syscall: "read" | "write"): Error {
  return Object.assign(new Error(`${syscall} ${code}`), { code, syscall });
}
