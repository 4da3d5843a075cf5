/** The gateway's end of the socket pair to the supervisor (wire/supervisor-frames.ts). */
import type { Duplex } from "node:stream";

import { KitError } from "../../core/errors.ts";
import {
  decodeAnswer,
  encodeFrame,
  FrameDecoder,
  MAX_REQUESTS,
  type SupervisorCall,
} from "../../wire/supervisor-frames.ts";

type PendingCall = PromiseWithResolvers<unknown>;

export class SupervisorClient {
  readonly #stream: Duplex;
  readonly #decoder = new FrameDecoder();
  readonly #pending = new Map<number, PendingCall>();
  readonly #closed = Promise.withResolvers<void>();
  #lastId = 0;

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on("data", (chunk: Uint8Array) => this.#receive(chunk));
    stream.on("error", () => stream.destroy());
    stream.on("end", () => stream.destroy());
    stream.once("close", () => this.#close());
  }

  /** Resolves when the supervisor is gone. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /**
   * The result, not yet parsed.
   * @param signal ends the wait here and at the supervisor.
   * @throws E_CONTROL_BUSY, E_CONTROL_GONE, E_CONTROL_REQUEST if it fits no frame, or what the supervisor answers.
   */
  async call(call: SupervisorCall, signal?: AbortSignal): Promise<unknown> {
    if (this.#stream.destroyed) throw gone();
    if (this.#pending.size >= MAX_REQUESTS) {
      throw new KitError("E_CONTROL_BUSY", `${MAX_REQUESTS} requests are in progress`);
    }
    signal?.throwIfAborted();
    const id = this.#nextId();
    const frame = encodeCall(id, call);
    const answer: PendingCall = Promise.withResolvers();
    this.#pending.set(id, answer);
    this.#stream.write(frame);
    const cancel = (): void =>
      void this.#stream.write(encodeCall(this.#nextId(), { method: "cancel", params: { id } }));
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      return await answer.promise;
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }

  #nextId(): number {
    this.#lastId = (this.#lastId % 0xff_ff_ff_ff) + 1;
    return this.#lastId;
  }

  #receive(chunk: Uint8Array): void {
    try {
      for (const value of this.#decoder.push(chunk)) this.#settle(decodeAnswer(value));
    } catch (error) {
      this.#stream.destroy(error instanceof Error ? error : undefined);
    }
  }

  /** Answers to cancellations have nobody who waits. */
  #settle(answer: ReturnType<typeof decodeAnswer>): void {
    const pending = this.#pending.get(answer.id);
    this.#pending.delete(answer.id);
    if ("error" in answer) pending?.reject(answer.error);
    else pending?.resolve(answer.result);
  }

  #close(): void {
    for (const pending of this.#pending.values()) pending.reject(gone());
    this.#pending.clear();
    this.#closed.resolve();
  }
}

/** A body within its limit may be longer as it is sent on: numbers are written out. */
function encodeCall(id: number, call: SupervisorCall): Buffer {
  try {
    return encodeFrame({ id, params: {}, ...call });
  } catch (error) {
    throw new KitError("E_CONTROL_REQUEST", `${call.method}: the request is too large`, { cause: error });
  }
}

function gone(): KitError {
  return new KitError("E_CONTROL_GONE", "the supervisor is gone");
}
