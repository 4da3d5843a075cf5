/** The development NSM of the host, over a stream of frames (wire/nsm/nsm-frames.ts). Dialled when it is first asked. */
import type { Duplex } from "node:stream";

import { Deadline } from "../../core/deadline.ts";
import { KitError } from "../../core/errors.ts";
import { NSM_REQUEST_MAX_BYTES } from "../../wire/nsm/nsm-limits.ts";
import { NsmConnection } from "./nsm-connection.ts";
import type { NsmProvider } from "./nsm-provider.ts";

export interface DevelopmentProviderOptions {
  /** The stream is the provider's then. */
  readonly dial: (signal: AbortSignal) => Promise<Duplex>;
  /** Of one request, dialling counted; 30 s unless told. */
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 30_000;

/** Requests wait for one another; after a broken connection the next one dials again. A request is never sent twice. */
export function openDevelopmentProvider(options: DevelopmentProviderOptions): NsmProvider {
  return new DevelopmentProvider(options);
}

class DevelopmentProvider implements NsmProvider {
  readonly name = "development";
  readonly rootSha256 = null;
  readonly #dial: DevelopmentProviderOptions["dial"];
  readonly #timeoutMs: number;
  readonly #closed = new AbortController();
  #connection: NsmConnection | undefined;
  /** Settles when the request before the next one is over; never rejects. */
  #last: Promise<unknown> = Promise.resolve();

  constructor({ dial, timeoutMs = TIMEOUT_MS }: DevelopmentProviderOptions) {
    this.#dial = dial;
    this.#timeoutMs = timeoutMs;
  }

  async exchange(request: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    if (request.length === 0 || request.length > NSM_REQUEST_MAX_BYTES)
      throw new KitError(
        "E_NSM_REQUEST_SIZE",
        `a request of ${request.length} bytes; 1 to ${NSM_REQUEST_MAX_BYTES} can be`,
      );
    const given = AbortSignal.any([signal, this.#closed.signal]);
    const answer = this.#last.then(async () => await this.#exchange(request, given));
    this.#last = answer.catch(() => undefined);
    try {
      return await untilAborted(answer, given);
    } catch (error) {
      signal.throwIfAborted();
      if (this.#closed.signal.aborted) throw unanswered("it is closed", error);
      if (error instanceof KitError) throw error;
      throw unanswered(error instanceof Error ? error.message : String(error), error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort();
    await this.#last;
    this.#connection?.destroy();
  }

  async #exchange(request: Uint8Array, given: AbortSignal): Promise<Uint8Array> {
    given.throwIfAborted();
    using deadline = new Deadline(given, this.#timeoutMs);
    try {
      const connection = await this.#open(deadline.signal);
      return await untilAborted(connection.ask(request), deadline.signal);
    } catch (error) {
      // An answer that comes late would be taken for the next one.
      this.#connection?.destroy();
      throw error;
    }
  }

  async #open(signal: AbortSignal): Promise<NsmConnection> {
    if (this.#connection?.isOpen === true) return this.#connection;
    const dialled = this.#dial(signal).then((stream) => {
      if (signal.aborted) stream.destroy();
      return stream;
    });
    this.#connection = new NsmConnection(await untilAborted(dialled, signal));
    return this.#connection;
  }
}

function unanswered(why: string, cause: unknown): KitError {
  return new KitError("E_NSM_TRANSPORT", `the development NSM does not answer: ${why}`, { cause });
}

/** @throws the signal's reason as soon as there is one; `work` is not waited for then, and may fail */
async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
