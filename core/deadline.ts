/** Deadlines are composed, not nested: a call that waits gets one signal that ends it for any reason. */

/** A signal that aborts when `signal` does or after `timeoutMs`, whichever comes first. */
export function withDeadline(signal: AbortSignal | undefined, timeoutMs: number): AbortSignal {
  const timeout = AbortSignal.timeout(timeoutMs);
  return signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
}
