/** How often something may be done: a store of tokens that fills at a steady rate. */
export interface Rate {
  readonly perSecond: number;
  /** Tokens that it holds, and begins with. */
  readonly burst: number;
}

export class TokenBucket {
  readonly #rate: Rate;
  readonly #monotonicMs: () => number;
  #tokens: number;
  #filledMs: number;

  constructor(rate: Rate, monotonicMs: () => number) {
    this.#rate = rate;
    this.#monotonicMs = monotonicMs;
    this.#tokens = rate.burst;
    this.#filledMs = monotonicMs();
  }

  /** Takes one. @returns 0, or in how many ms there will be one */
  take(): number {
    const { perSecond, burst } = this.#rate;
    const nowMs = this.#monotonicMs();
    this.#tokens = Math.min(burst, this.#tokens + ((nowMs - this.#filledMs) * perSecond) / 1000);
    this.#filledMs = nowMs;
    if (this.#tokens < 1) return Math.ceil(((1 - this.#tokens) * 1000) / perSecond);
    this.#tokens -= 1;
    return 0;
  }
}
