/**
 * Serves a development NSM to connections of an enclave (wire/nsm/nsm-frames.ts). The other side is not believed: messages
 * are bounded, the next one is read when the answer to the last has been taken, and nothing is waited for without end.
 */
import type { Duplex } from "node:stream";

import { NSM_REQUEST_MAX_BYTES } from "../wire/nsm/nsm-limits.ts";
import { encodeNsmFrame, NsmFrameReader } from "../wire/nsm/nsm-frames.ts";
import { encodeNsmResponse } from "../wire/nsm/nsm-responses.ts";
import type { DevelopmentNsm } from "./development-nsm.ts";

export interface NsmServerOptions {
  /** Asked before each request. Where it fails the enclave is told InternalError. */
  readonly nsm: () => Promise<DevelopmentNsm>;
  /** Ends every connection. */
  readonly signal: AbortSignal;
  /** From the first byte of a request to its last, and for taking an answer; 10 s unless told. */
  readonly frameTimeoutMs?: number;
  /** Without a request; 10 minutes unless told. Who comes later dials again. */
  readonly idleTimeoutMs?: number;
  /** Why a request could not be answered. What the enclave does wrong is not told. */
  readonly report?: (error: unknown) => void;
}

const FRAME_TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 600_000;

/** @returns what takes a connection, and owns it then; the caller limits how many there are. */
export function serveDevelopmentNsm(options: NsmServerOptions): (socket: Duplex) => void {
  return (socket) => {
    socket.on("error", () => socket.destroy());
    void new NsmConversation(socket, options).run();
  };
}

class NsmConversation {
  readonly #socket: Duplex;
  readonly #options: NsmServerOptions;
  readonly #reader = new NsmFrameReader(NSM_REQUEST_MAX_BYTES);
  readonly #end = (): void => void this.#socket.destroy();
  #timer: NodeJS.Timeout | undefined;

  constructor(socket: Duplex, options: NsmServerOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  async run(): Promise<void> {
    const { signal } = this.#options;
    signal.addEventListener("abort", this.#end, { once: true });
    if (signal.aborted) this.#end();
    try {
      this.#expectRequest();
      for await (const chunk of this.#socket) await this.#take(chunk);
    } catch {
      // A peer that broke the protocol, or is gone: there is nobody to tell.
    } finally {
      clearTimeout(this.#timer);
      signal.removeEventListener("abort", this.#end);
      this.#end();
    }
  }

  async #take(chunk: unknown): Promise<void> {
    if (!(chunk instanceof Uint8Array)) throw new TypeError("a stream of texts");
    let isNew = !this.#reader.isInFrame;
    this.#reader.push(chunk);
    for (let request = this.#reader.next(); request !== undefined; request = this.#reader.next()) {
      clearTimeout(this.#timer);
      const answer = await this.#answer(request);
      this.#arm(this.#options.frameTimeoutMs ?? FRAME_TIMEOUT_MS);
      await this.#send(encodeNsmFrame(answer));
      isNew = true;
    }
    if (!this.#reader.isInFrame) this.#expectRequest();
    // Whoever sends byte by byte gets no more time for it.
    else if (isNew) this.#arm(this.#options.frameTimeoutMs ?? FRAME_TIMEOUT_MS);
  }

  async #answer(request: Uint8Array): Promise<Uint8Array> {
    try {
      return await (await this.#options.nsm()).handle(request);
    } catch (error) {
      this.#options.report?.(error);
      return encodeNsmResponse({ kind: "Error", error: "InternalError" });
    }
  }

  async #send(bytes: Uint8Array): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#socket.write(bytes, (error) => (error ? reject(error) : resolve()));
    await promise;
  }

  #expectRequest(): void {
    this.#arm(this.#options.idleTimeoutMs ?? IDLE_TIMEOUT_MS);
  }

  #arm(timeoutMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#end, timeoutMs);
    // A program that has nothing else to do does not wait for a silent enclave.
    this.#timer.unref();
  }
}
