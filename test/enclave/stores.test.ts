import fc from "fast-check";
import { expect, test } from "vitest";

import { EntryRing, SEQ_PER_GENERATION } from "../../enclave/entry-ring.ts";
import { EventStore } from "../../enclave/event-store.ts";
import { LogStore } from "../../enclave/log-store.ts";
import type { RingLimits } from "../../enclave/entry-ring.ts";
import { encodeFrame, MAX_READ_BYTES, MAX_READ_ENTRIES } from "../../wire/supervisor-frames.ts";

const FIRST = SEQ_PER_GENERATION;
const ALL = { after: 0, limitBytes: MAX_READ_BYTES };

function openLogs(limits?: RingLimits): LogStore {
  return new LogStore({ generation: 1, epochMs: () => 7, ...(limits === undefined ? {} : { limits }) });
}

function print(logs: LogStore, service: string, ...lines: string[]): void {
  const stream = logs.openStream(service, "stdout");
  stream.push(Buffer.from(lines.map((line) => `${line}\n`).join("")));
}

function linesOf(page: ReturnType<LogStore["read"]>): string[] {
  return page.entries.map(({ service, line }) => `${service} ${line}`);
}

test("a ring never exceeds its limits and agrees with a plain list", () => {
  const sizes = fc.array(fc.nat(40), { maxLength: 3000 });
  fc.assert(
    fc.property(sizes, fc.nat(3000), (all, after) => {
      const ring = new EntryRing<{ seq: number }>({ entries: 20, bytes: 200 });
      all.forEach((size, index) => ring.push({ seq: index + 1 }, size));
      let kept = all.map((size, index) => ({ seq: index + 1, size })).slice(-20);
      while (kept.reduce((sum, { size }) => sum + size, 0) > 200) kept = kept.slice(1);
      expect([...ring.entriesAfter(after)]).toEqual(
        kept.filter(({ seq }) => seq > after).map(({ seq }) => ({ seq })),
      );
      expect(ring.countBetween(0, all.length)).toBe(kept.length);
      expect(ring.evictedBetween(0, all.length)).toBe(all.length - kept.length);
    }),
  );
});

test("events are read after a number and say where to go on", () => {
  const events = new EventStore({ generation: 1, epochMs: () => 7 });
  events.add(null, "started");
  events.add("web", "failed:\nexited(1)");
  expect(events.read(0)).toEqual({
    entries: [
      { seq: FIRST + 1, time: 7, type: "enclave", service: null, message: "started" },
      { seq: FIRST + 2, time: 7, type: "service", service: "web", message: "failed: exited(1)" },
    ],
    next: FIRST + 2,
    dropped: 0,
    last: FIRST + 2,
    final: false,
  });
  expect(events.read(FIRST + 2).entries).toEqual([]);
  events.close();
  expect(events.read(FIRST + 2).final).toBe(true);
  expect(events.read(FIRST + 1).final).toBe(true);
});

test("events beyond the ring are counted as dropped, exactly once", () => {
  const events = new EventStore({ generation: 1, epochMs: () => 7 });
  for (let index = 0; index < 5000; index += 1) events.add("a", "x");
  let dropped = 0;
  let read = 0;
  for (let after = 0, page; (page = events.read(after)).entries.length > 0; after = page.next) {
    dropped += page.dropped;
    read += page.entries.length;
  }
  expect({ read, dropped }).toEqual({ read: 4096, dropped: 5000 - 4096 });
});

test("a reader of the generation before goes on with the first entry of this one", () => {
  const events = new EventStore({ generation: 2, epochMs: () => 7 });
  events.add(null, "started");
  const page = events.read(FIRST + 17);
  expect(page.entries.map(({ seq }) => seq)).toEqual([2 * SEQ_PER_GENERATION + 1]);
  expect(page.dropped).toBe(0);
});

test("lines of several services come in the order in which they were printed", () => {
  const logs = openLogs();
  print(logs, "a", "1");
  print(logs, "b", "2");
  print(logs, "a", "3");
  print(logs, "gateway", "internal");
  expect(linesOf(logs.read(ALL))).toEqual(["a 1", "b 2", "a 3"]);
  expect(linesOf(logs.read({ ...ALL, services: ["b"] }))).toEqual(["b 2"]);
  expect(linesOf(logs.read({ ...ALL, services: ["gateway"] }))).toEqual(["gateway internal"]);
});

test("a read takes the tail of what is there", () => {
  const logs = openLogs();
  print(logs, "a", "1", "2", "3");
  expect(linesOf(logs.read({ ...ALL, tail: 2 }))).toEqual(["a 2", "a 3"]);
  expect(logs.read({ ...ALL, tail: 0 })).toMatchObject({ entries: [], next: FIRST + 3 });
  expect(linesOf(logs.read({ ...ALL, tail: 100, after: FIRST + 1 }))).toEqual(["a 2", "a 3"]);
});

test("a flood overwrites its own lines and nobody else's, and the gap is counted", () => {
  const logs = openLogs({ entries: 10, bytes: 1000 });
  print(logs, "quiet", "first");
  print(logs, "loud", ...Array.from({ length: 100 }, (_, index) => String(index)));
  const page = logs.read(ALL);
  expect(page.dropped).toBe(90);
  expect(linesOf(page)).toEqual([
    "quiet first",
    ...Array.from({ length: 10 }, (_, index) => `loud ${90 + index}`),
  ]);
  expect(logs.read({ ...ALL, services: ["quiet"] }).dropped).toBe(0);
});

test("reading page by page gives every entry once and counts every dropped one once", () => {
  const prints = fc.array(fc.tuple(fc.constantFrom("a", "b"), fc.nat(30)), { maxLength: 60 });
  fc.assert(
    fc.property(prints, fc.integer({ min: 1, max: 40 }), (all, limitBytes) => {
      const logs = openLogs({ entries: 7, bytes: 100 });
      for (const [service, length] of all) print(logs, service, "x".repeat(length));
      let dropped = 0;
      const seen: number[] = [];
      for (let after = 0, steps = 0; steps < 100; steps += 1) {
        const page = logs.read({ after, limitBytes });
        dropped += page.dropped;
        seen.push(...page.entries.map(({ seq }) => seq));
        after = page.next;
        if (after >= page.last) break;
      }
      expect(seen).toEqual([...new Set(seen)].sort((a, b) => a - b));
      expect(seen.length + dropped).toBe(all.length);
    }),
  );
});

test("the worst page still fits a frame", () => {
  const logs = openLogs();
  for (let index = 0; index < 200; index += 1) print(logs, "a", "\u0001".repeat(5000));
  for (let index = 0; index < 2000; index += 1) print(logs, "b".repeat(64), "\u0001".repeat(90));
  for (
    let after = 0, page;
    after < (page = logs.read({ after, limitBytes: MAX_READ_BYTES })).last;
    after = page.next
  ) {
    expect(page.entries.length).toBeLessThanOrEqual(MAX_READ_ENTRIES);
    expect(encodeFrame({ id: 1, result: page }).length).toBeGreaterThan(0);
  }
});
