/** What happens after a service's process ended: pure decisions, no timers. */
import { backoffDelayMs, type BackoffPolicy } from "../core/backoff.ts";
import type { RestartPolicy } from "../wire/enclave-config.ts";

export interface RestartTiming {
  readonly backoff: BackoffPolicy;
  /** A process that ran so long ends the series of failures. */
  readonly steadyMs: number;
  /** More failures in a row than this are a crash loop. */
  readonly crashLoopAfter: number;
}

/** 100 ms doubling: five quick ends take about 3 s, then one start every 30 s at most. */
export const RESTART_TIMING: RestartTiming = {
  backoff: { initialMs: 100, maximumMs: 30_000, jitter: 0.2 },
  steadyMs: 10_000,
  crashLoopAfter: 5,
};

export type AfterEnd =
  | { readonly next: "exited" | "failed" }
  | { readonly next: "backoff" | "crash_loop"; readonly delayMs: number };

/**
 * @param clean the process was executed and ended with status 0.
 * @param endsInRow this end included, since the last process that ran `steadyMs`.
 */
export function decideAfterEnd(
  policy: RestartPolicy,
  { clean, endsInRow }: { readonly clean: boolean; readonly endsInRow: number },
  { backoff, crashLoopAfter }: RestartTiming,
  random: () => number,
): AfterEnd {
  if (!mayRestart(policy, clean, endsInRow)) return { next: clean ? "exited" : "failed" };
  if (endsInRow > crashLoopAfter) {
    return {
      next: "crash_loop",
      delayMs: backoffDelayMs({ ...backoff, initialMs: backoff.maximumMs }, 0, random),
    };
  }
  return { next: "backoff", delayMs: backoffDelayMs(backoff, endsInRow - 1, random) };
}

function mayRestart(policy: RestartPolicy, clean: boolean, endsInRow: number): boolean {
  switch (policy.policy) {
    case "no":
      return false;
    case "always":
    case "unless-stopped":
      return true;
    default:
      return !clean && endsInRow <= (policy.maximumRetries ?? Number.POSITIVE_INFINITY);
  }
}
