/** The supervisor's end of one gateway's socket pair (wire/supervisor-frames.ts). */
import { once } from "node:events";
import type { Duplex } from "node:stream";

import { KitError, toKitError } from "../core/errors.ts";
import {
  decodeRequest,
  encodeErrorAnswer,
  encodeFrame,
  FrameDecoder,
  MAX_REQUESTS,
  type SupervisorCall,
  type SupervisorRequest,
} from "../wire/supervisor-frames.ts";
import type { LateResult } from "./supervisor-calls.ts";

/** Bytes of answers that may wait for the gateway; then the next answer is not even computed. */
const MAX_UNSENT_BYTES = 256 * 1024;

export interface ServeOptions {
  readonly carryOut: (call: SupervisorCall, signal: AbortSignal) => Promise<LateResult>;
  /** The gateway broke the protocol; the stream is destroyed. */
  readonly onViolation: (error: KitError) => void;
}

/** Serves until the stream closes. Answers go out in the order in which they become ready. */
export function serveGateway(stream: Duplex, options: ServeOptions): void {
  const connection = new GatewayConnection(stream, options);
  stream.on("data", (chunk: Uint8Array) => connection.receive(chunk));
  stream.on("error", () => stream.destroy());
  stream.once("close", () => connection.close());
}

class GatewayConnection {
  readonly #stream: Duplex;
  readonly #options: ServeOptions;
  readonly #decoder = new FrameDecoder();
  readonly #calls = new Map<number, AbortController>();
  readonly #closed = new AbortController();
  #sending: Promise<void> = Promise.resolve();

  constructor(stream: Duplex, options: ServeOptions) {
    this.#stream = stream;
    this.#options = options;
  }

  receive(chunk: Uint8Array): void {
    if (this.#stream.destroyed) return;
    try {
      for (const value of this.#decoder.push(chunk)) this.#take(decodeRequest(value));
    } catch (error) {
      this.#options.onViolation(toKitError(error));
      this.#stream.destroy();
    }
  }

  close(): void {
    this.#closed.abort();
    for (const call of this.#calls.values()) call.abort();
  }

  #take(request: SupervisorRequest): void {
    const { id } = request;
    if (this.#calls.has(id)) {
      throw new KitError("E_ENCLAVE_FRAME", `request.id: ${id} is in progress already`);
    }
    // As many again may be cancellations; an honest gateway keeps to that.
    if (this.#calls.size >= 2 * MAX_REQUESTS) {
      throw new KitError("E_ENCLAVE_FRAME", `more than ${2 * MAX_REQUESTS} requests are in progress`);
    }
    if (request.method === "cancel") this.#calls.get(request.params.id)?.abort();
    const abort = new AbortController();
    this.#calls.set(id, abort);
    void this.#answer(request, abort.signal);
  }

  async #answer(request: SupervisorRequest, signal: AbortSignal): Promise<void> {
    const { id } = request;
    try {
      const result = await this.#options.carryOut(request, signal);
      this.#send(id, result);
    } catch (error) {
      const refusal = toKitError(error);
      this.#send(id, () => {
        throw refusal;
      });
    }
  }

  /** One after the other, and only while the gateway reads what it asked for. */
  #send(id: number, result: LateResult): void {
    this.#sending = this.#sendAfter(this.#sending, id, result);
  }

  async #sendAfter(previous: Promise<void>, id: number, result: LateResult): Promise<void> {
    await previous;
    await this.#waitForRoom();
    this.#calls.delete(id);
    if (!this.#stream.destroyed) this.#stream.write(encodeAnswer(id, result));
  }

  async #waitForRoom(): Promise<void> {
    while (this.#stream.writableLength > MAX_UNSENT_BYTES && !this.#stream.destroyed) {
      await once(this.#stream, "drain", { signal: this.#closed.signal }).catch(() => undefined);
    }
  }
}

function encodeAnswer(id: number, result: LateResult): Buffer {
  try {
    return encodeFrame({ id, result: result() });
  } catch (error) {
    return encodeErrorAnswer(id, toKitError(error));
  }
}
