import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { RuleBudget } from "../../../pf-proxy/policy/rule-budget.ts";

function budgetOf(rule: { readonly connections?: number; readonly connectionsPerSecond?: number }) {
  let nowMs = 5_000;
  const budget = new RuleBudget([rule], () => nowMs);
  return { take: () => budget.take(0), advance: (ms: number) => (nowMs += ms) };
}

function countGranted(take: () => unknown, tries: number): number {
  return Array.from({ length: tries }, take).filter((taken) => typeof taken !== "string").length;
}

describe("connections at one time", () => {
  test("a rule without limits has none", () => {
    expect(countGranted(budgetOf({}).take, 10_000)).toBe(10_000);
  });

  test("one more than the limit is refused until one is released", () => {
    const { take } = budgetOf({ connections: 2 });
    const first = take();
    take();
    expect(take()).toBe("connections");
    if (typeof first === "string") throw new Error("the first was refused");
    first.release();
    first.release();
    expect(countGranted(take, 5)).toBe(1);
  });

  test("each rule has its own, and a rule that does not exist has none", () => {
    const budget = new RuleBudget([{ connections: 1 }, { connections: 1 }], () => 0);
    expect(budget.take(0)).not.toBe("connections");
    expect(budget.take(1)).not.toBe("connections");
    expect(budget.take(0)).toBe("connections");
    for (const index of [2, -1, 0.5, Number.NaN]) expect(budget.take(index)).toBe("connections");
  });
});

describe("new connections in each second", () => {
  test("a second's worth may come at once, then one in each part of a second", () => {
    const { take, advance } = budgetOf({ connectionsPerSecond: 10 });
    expect(countGranted(take, 50)).toBe(10);
    expect(take()).toBe("rate");
    advance(99);
    expect(take()).toBe("rate");
    advance(1);
    expect(countGranted(take, 50)).toBe(1);
    advance(3_600_000);
    expect(countGranted(take, 50)).toBe(10);
  });

  test("what is refused for another limit costs nothing of the rate", () => {
    const { take } = budgetOf({ connections: 1, connectionsPerSecond: 2 });
    const first = take();
    expect(countGranted(take, 20)).toBe(0);
    if (typeof first !== "string") first.release();
    expect(countGranted(take, 20)).toBe(1);
  });

  test("a clock that steps back takes nothing away", () => {
    const { take, advance } = budgetOf({ connectionsPerSecond: 3 });
    advance(-4_000);
    expect(countGranted(take, 5)).toBe(3);
  });

  test("a clock that steps back gives nothing", () => {
    const { take, advance } = budgetOf({ connectionsPerSecond: 1 });
    expect(countGranted(take, 5)).toBe(1);
    advance(-4_000);
    expect(countGranted(take, 5)).toBe(0);
    advance(4_000);
    expect(countGranted(take, 5)).toBe(0);
    advance(1_000);
    expect(countGranted(take, 5)).toBe(1);
  });

  test("in any time there are at most a second's worth and what the time gave, and no less where enough asked", () => {
    const steps = fc.array(fc.nat(400), { minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 50 }), steps, (rate, waits) => {
        const { take, advance } = budgetOf({ connectionsPerSecond: rate });
        let granted = 0;
        let elapsedMs = 0;
        for (const waitMs of waits) {
          granted += countGranted(take, rate + 1);
          advance(waitMs);
          elapsedMs += waitMs;
        }
        granted += countGranted(take, rate + 1);
        expect(granted).toBe(rate + Math.floor((elapsedMs * rate) / 1000));
      }),
    );
  });
});

test("the limit holds through any order of taking and releasing", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.array(fc.nat(9), { maxLength: 100 }),
      (connections, steps) => {
        const { take } = budgetOf({ connections });
        const held: { readonly release: () => void }[] = [];
        for (const step of steps) {
          if (step < 5) held.splice(step, 1)[0]?.release();
          else {
            const taken = take();
            expect(typeof taken === "string").toBe(held.length >= connections);
            if (typeof taken !== "string") held.push(taken);
          }
        }
      },
    ),
  );
});
