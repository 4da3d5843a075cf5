import { once } from "node:events";
import type { Duplex } from "node:stream";

import { NSM_RESPONSE_MAX_BYTES } from "../../wire/nsm/nsm-limits.ts";
import { encodeNsmFrame, NsmFrameReader } from "../../wire/nsm/nsm-frames.ts";
import { encodeNsmRequest, type NsmRequest } from "../../wire/nsm/nsm-requests.ts";

/** The other side of a development NSM's stream, which may also misbehave. */
export class FramePeer implements Disposable {
  readonly socket: Duplex;
  /** Answers that came, whole ones. */
  readonly answers: Buffer[] = [];
  /** The server said that it has no more to say, or is gone. */
  readonly ended: Promise<void>;
  readonly #reader = new NsmFrameReader(NSM_RESPONSE_MAX_BYTES);
  readonly #waiting = new Set<() => void>();

  constructor(socket: Duplex) {
    this.socket = socket;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    for (const event of ["end", "close"]) socket.once(event, () => this.#wake(resolve));
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
  }

  /** True once the server has ended and what came before is no whole answer. */
  get isInAnswer(): boolean {
    return this.#reader.isInFrame;
  }

  send(request: NsmRequest | Uint8Array): this {
    const body = request instanceof Uint8Array ? request : encodeNsmRequest(request);
    return this.sendBytes(encodeNsmFrame(body));
  }

  sendBytes(bytes: Uint8Array): this {
    this.socket.write(bytes);
    return this;
  }

  /** As the kernel has taken them. */
  async sendBytesFlushed(bytes: Uint8Array): Promise<void> {
    await new Promise<void>((resolve) => void this.socket.write(bytes, () => resolve()));
  }

  /** The first `count` answers; rejects where the server ends before. */
  async answered(count: number): Promise<readonly Buffer[]> {
    let isOver = false;
    void this.ended.then(() => (isOver = true));
    while (this.answers.length < count) {
      if (isOver) throw new Error(`ended after ${this.answers.length} answers of ${count}`);
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
      await Promise.resolve();
    }
    return this.answers.slice(0, count);
  }

  async ask(request: NsmRequest | Uint8Array): Promise<Buffer> {
    const before = this.answers.length;
    this.send(request);
    return (await this.answered(before + 1)).at(-1) ?? Buffer.alloc(0);
  }

  /** All answers there are, once the server has ended. */
  async all(): Promise<readonly Buffer[]> {
    await this.ended;
    return this.answers;
  }

  async closed(): Promise<void> {
    if (!this.socket.closed) await once(this.socket, "close");
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }

  #take(chunk: Buffer): void {
    this.#reader.push(chunk);
    for (let body = this.#reader.next(); body !== undefined; body = this.#reader.next())
      this.answers.push(Buffer.from(body));
    this.#wake();
  }

  #wake(first?: () => void): void {
    first?.();
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}
