export interface BackoffPolicy {
  /** Delay before the first retry, in ms. */
  readonly initialMs: number;
  /** No delay is longer than this, in ms. */
  readonly maximumMs: number;
  /** Part of the delay that is random, 0 to 1. */
  readonly jitter: number;
}

/**
 * Delay before retry `attempt` (0 is the first), in ms: doubles up to the maximum, then loses up to `jitter` of
 * itself so that many peers do not retry in step.
 * @param random a value in [0, 1)
 */
export function backoffDelayMs(policy: BackoffPolicy, attempt: number, random: () => number): number {
  const full = Math.min(policy.maximumMs, policy.initialMs * 2 ** Math.min(attempt, 30));
  return Math.round(full * (1 - policy.jitter * random()));
}
