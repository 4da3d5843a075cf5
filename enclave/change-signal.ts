/** Wakes those who wait for something new. */
export class ChangeSignal {
  #next = Promise.withResolvers<void>();
  #scheduled = false;

  /** Wakes all waiters in the next turn of the event loop, so that a burst wakes them once. */
  notify(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      const { resolve } = this.#next;
      this.#next = Promise.withResolvers();
      resolve();
    });
  }

  /** Resolves after the next notify, or when the signal aborts. */
  async changed(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const abort = (): void => resolve();
    signal.addEventListener("abort", abort, { once: true });
    void this.#next.promise.then(resolve);
    await promise;
    signal.removeEventListener("abort", abort);
  }
}
