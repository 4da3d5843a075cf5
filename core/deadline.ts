/** Deadlines are composed, not nested: a call that waits gets one signal that ends it for any reason. */

/** A signal that aborts when `signal` does or after `timeoutMs`, whichever comes first. */
export function withDeadline(signal: AbortSignal | undefined, timeoutMs: number): AbortSignal {
  const timeout = AbortSignal.timeout(timeoutMs);
  return signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
}

/**
 * The same for what happens often: it is over when its owner says so, not when the time has come. Thousands of signals
 * that wait for their timers hold on to everything that listened to them.
 */
export class Deadline implements Disposable {
  readonly #abort = new AbortController();
  readonly #parent: AbortSignal;
  readonly #timer: NodeJS.Timeout;
  readonly #onParent = (): void => this.#abort.abort(this.#parent.reason);

  constructor(parent: AbortSignal, timeoutMs: number) {
    this.#parent = parent;
    this.#timer = setTimeout(() => this.#expire(timeoutMs), timeoutMs);
    if (parent.aborted) this.#onParent();
    else parent.addEventListener("abort", this.#onParent, { once: true });
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#parent.removeEventListener("abort", this.#onParent);
  }

  #expire(timeoutMs: number): void {
    this.#abort.abort(new DOMException(`not done within ${timeoutMs} ms`, "TimeoutError"));
  }
}
