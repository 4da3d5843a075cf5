import { expect, test } from "vitest";

import { AttestedTime } from "../../ra-server/attested-time.ts";
import { TokenBucket } from "../../ra-server/token-bucket.ts";

const START_MS = Date.UTC(2026, 10, 1);

function clock(): { nowMs: number; readonly time: AttestedTime } {
  const system = { nowMs: START_MS };
  return Object.assign(system, { time: new AttestedTime(() => system.nowMs) });
}

test("the newest document is a floor under a clock that was turned back", () => {
  const state = clock();
  expect(state.time.nowMs()).toBe(START_MS);
  state.time.observe({ documentMs: START_MS, elapsedMs: 5 });
  state.nowMs = START_MS - 86_400_000;
  expect(state.time.nowMs()).toBe(START_MS);
  state.nowMs = START_MS + 1;
  expect(state.time.nowMs()).toBe(START_MS + 1);
});

test("an older document does not lower the floor", () => {
  const state = clock();
  state.time.observe({ documentMs: START_MS + 9_000, elapsedMs: 0 });
  state.time.observe({ documentMs: START_MS, elapsedMs: 0 });
  expect(state.time.report().documentTimeMs).toBe(START_MS + 9_000);
});

test.each([
  ["forward", 10_000],
  ["back", -10_000],
])("a clock set %s between two documents is a jump, and is counted once", (_direction, byMs) => {
  const state = clock();
  state.time.observe({ documentMs: START_MS, elapsedMs: 0 });
  state.nowMs += 60_000 + byMs;
  expect(state.time.observe({ documentMs: START_MS + 60_000, elapsedMs: 0 })).toBe(byMs);
  state.nowMs += 60_000;
  expect(state.time.observe({ documentMs: START_MS + 120_000, elapsedMs: 0 })).toBe(0);
  expect(state.time.report()).toEqual({
    documentTimeMs: START_MS + 120_000,
    clockOffsetMs: byMs,
    clockJumps: 1,
  });
});

test("a clock that drifts by two seconds, and a document that was long on its way, are no jumps", () => {
  const state = clock();
  state.time.observe({ documentMs: START_MS, elapsedMs: 0 });
  state.nowMs += 62_000;
  expect(state.time.observe({ documentMs: START_MS + 60_000, elapsedMs: 0 })).toBe(0);
  state.nowMs += 30_000;
  expect(state.time.observe({ documentMs: START_MS + 70_000, elapsedMs: 20_000 })).toBe(0);
  expect(state.time.report().clockJumps).toBe(0);
});

test("a bucket gives its burst, then its rate, and says when the next is due", () => {
  let nowMs = 0;
  const bucket = new TokenBucket({ perSecond: 10, burst: 3 }, () => nowMs);
  expect([bucket.take(), bucket.take(), bucket.take(), bucket.take()]).toEqual([0, 0, 0, 100]);
  nowMs = 50;
  expect(bucket.take()).toBe(50);
  nowMs = 100;
  expect([bucket.take(), bucket.take()]).toEqual([0, 100]);
  nowMs = 100_000;
  expect([1, 2, 3, 4].map(() => bucket.take())).toEqual([0, 0, 0, 100]);
});
