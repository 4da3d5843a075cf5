import fc from "fast-check";
import { expect, test } from "vitest";

import { includesPort, isPortLeft, isPortList } from "../../../pf-proxy/policy/port-ranges.ts";
import type { PortRange } from "../../../wire/egress-policy.ts";

/** Few ports, so that ranges meet. */
const port = fc.integer({ min: 1, max: 30 });
const range = fc.tuple(port, port).map(([a, b]): PortRange => ({ from: Math.min(a, b), to: Math.max(a, b) }));
const lists = fc.uniqueArray(port, { minLength: 2, maxLength: 12 }).map((ports) => {
  const sorted = [...ports].sort((a, b) => a - b);
  return sorted.flatMap((from, at): PortRange[] =>
    at % 2 === 0 ? [{ from, to: sorted[at + 1] ?? from }] : [],
  );
});

function portsOf(ranges: readonly PortRange[]): ReadonlySet<number> {
  return new Set(
    ranges.flatMap(({ from, to }) => Array.from({ length: to - from + 1 }, (_item, at) => from + at)),
  );
}

test("a list includes the ports of its ranges, both ends with them, and no others", () => {
  fc.assert(
    fc.property(lists, (ranges) => {
      expect(isPortList(ranges)).toBe(true);
      const ports = portsOf(ranges);
      for (let one = 0; one <= 32; one += 1) expect(includesPort(ranges, one)).toBe(ports.has(one));
    }),
  );
});

test("a port is left exactly where some allowed one is not denied", () => {
  fc.assert(
    fc.property(fc.array(range, { maxLength: 5 }), fc.array(range, { maxLength: 8 }), (allowed, denied) => {
      const closed = portsOf(denied);
      expect(isPortLeft(allowed, denied)).toBe([...portsOf(allowed)].some((one) => !closed.has(one)));
    }),
    { numRuns: 2_000 },
  );
});

test.each([
  [[]],
  [[{ from: 0, to: 1 }]],
  [[{ from: 1, to: 65_536 }]],
  [[{ from: 2, to: 1 }]],
  [[{ from: 1.5, to: 2 }]],
  [[{ from: Number.NaN, to: Number.NaN }]],
  [[{ from: 5, to: 6 }, { from: 1, to: 2 }]],
  [[{ from: 1, to: 5 }, { from: 5, to: 6 }]],
])("%j is no list of ports", (ranges) => {
  expect(isPortList(ranges)).toBe(false);
}); // prettier-ignore

test("no port includes what is no number", () => {
  const all = [{ from: 1, to: 65_535 }];
  for (const one of [0, -1, 65_536, Number.NaN, Number.POSITIVE_INFINITY])
    expect(includesPort(all, one)).toBe(false);
});
