/** One connection to a development NSM. The peer may only speak when it was asked, and once. */
import type { Duplex } from "node:stream";

import { KitError } from "../../core/errors.ts";
import { encodeNsmFrame, NsmFrameReader } from "../../wire/nsm/nsm-frames.ts";
import { NSM_RESPONSE_MAX_BYTES } from "../../wire/nsm/nsm-limits.ts";

/** Owns the stream. */
export class NsmConnection {
  readonly #stream: Duplex;
  readonly #reader = new NsmFrameReader(NSM_RESPONSE_MAX_BYTES);
  #waiting: PromiseWithResolvers<Uint8Array> | undefined;
  #isOpen = true;

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on("data", (chunk: Buffer) => this.#take(chunk));
    stream.on("error", (error) => this.#fail(error));
    // Half of a connection is of no use: what is asked is answered.
    for (const event of ["end", "close"])
      stream.once(event, () => this.#fail(new KitError("E_NSM_TRANSPORT", "the development NSM hung up")));
    if (stream.destroyed) this.#fail(new KitError("E_NSM_TRANSPORT", "the connection is closed"));
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** One at a time. @throws E_NSM_TRANSPORT, errno; the connection is closed then */
  async ask(request: Uint8Array): Promise<Uint8Array> {
    if (this.#waiting !== undefined) throw new TypeError("a request before the answer to the last");
    if (!this.#isOpen)
      throw new KitError("E_NSM_TRANSPORT", "the connection to the development NSM is closed");
    this.#waiting = Promise.withResolvers();
    this.#stream.write(encodeNsmFrame(request));
    return await this.#waiting.promise;
  }

  destroy(): void {
    this.#fail(new KitError("E_NSM_TRANSPORT", "the connection to the development NSM was closed"));
  }

  #take(chunk: Buffer): void {
    if (!this.#isOpen) return;
    try {
      if (this.#waiting === undefined) throw new KitError("E_NSM_TRANSPORT", "NSM: an answer to nothing");
      this.#reader.push(chunk);
      const answer = this.#reader.next();
      if (answer === undefined) return;
      if (this.#reader.isInFrame) throw new KitError("E_NSM_TRANSPORT", "NSM: more than one answer");
      this.#waiting.resolve(answer);
      this.#waiting = undefined;
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#isOpen = false;
    this.#waiting?.reject(error);
    this.#waiting = undefined;
    this.#stream.destroy();
  }
}
