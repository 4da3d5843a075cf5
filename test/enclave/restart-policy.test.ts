import { expect, test } from "vitest";

import { decideAfterEnd, RESTART_TIMING } from "../../enclave/restart-policy.ts";
import type { RestartPolicy } from "../../wire/enclave-config.ts";

function decide(policy: RestartPolicy, clean: boolean, endsInRow: number, random = 0): unknown {
  return decideAfterEnd(policy, { clean, endsInRow }, RESTART_TIMING, () => random);
}

test("policy no: status 0 is an exit, anything else a failure", () => {
  expect(decide({ policy: "no" }, true, 1)).toEqual({ next: "exited" });
  expect(decide({ policy: "no" }, false, 1)).toEqual({ next: "failed" });
});

test.each(["always", "unless-stopped"] as const)("policy %s: restarts after status 0 too", (policy) => {
  expect(decide({ policy }, true, 1)).toEqual({ next: "backoff", delayMs: 100 });
  expect(decide({ policy }, false, 1)).toEqual({ next: "backoff", delayMs: 100 });
});

test("policy on-failure: restarts after faults only, as often as allowed", () => {
  expect(decide({ policy: "on-failure" }, true, 1)).toEqual({ next: "exited" });
  expect(decide({ policy: "on-failure" }, false, 3)).toEqual({ next: "backoff", delayMs: 400 });
  expect(decide({ policy: "on-failure", maximumRetries: 2 }, false, 2)).toMatchObject({ next: "backoff" });
  expect(decide({ policy: "on-failure", maximumRetries: 2 }, false, 3)).toEqual({ next: "failed" });
});

test("delays double from 100 ms; the sixth failure in a row is a crash loop at the longest delay", () => {
  const decisions = [1, 2, 3, 4, 5, 6, 7, 1_000_000].map((ends) => decide({ policy: "always" }, false, ends));
  expect(decisions).toEqual([
    { next: "backoff", delayMs: 100 },
    { next: "backoff", delayMs: 200 },
    { next: "backoff", delayMs: 400 },
    { next: "backoff", delayMs: 800 },
    { next: "backoff", delayMs: 1600 },
    { next: "crash_loop", delayMs: 30_000 },
    { next: "crash_loop", delayMs: 30_000 },
    { next: "crash_loop", delayMs: 30_000 },
  ]);
});

test("jitter only shortens a delay, by a fifth at most", () => {
  expect(decide({ policy: "always" }, false, 6, 0.999)).toEqual({ next: "crash_loop", delayMs: 24_006 });
  expect(decide({ policy: "always" }, false, 1, 0.5)).toEqual({ next: "backoff", delayMs: 90 });
});
