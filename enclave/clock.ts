/** Time as a parameter: everything that compares times or waits takes a Clock. */
export interface Clock {
  /** Milliseconds since the epoch, for people. */
  epochMs(): number;
  /** Milliseconds since some moment; never jumps, for comparisons. */
  monotonicMs(): number;
  /** Runs `action` once after `delayMs`; the function returned cancels it and may be called at any time. */
  after(delayMs: number, action: () => void): () => void;
}

export const SYSTEM_CLOCK: Clock = {
  epochMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after: (delayMs, action) => {
    const timer = setTimeout(action, delayMs);
    return () => clearTimeout(timer);
  },
};
