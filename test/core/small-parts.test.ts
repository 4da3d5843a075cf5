import { mkdir, mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";

import { writeFileAtomic } from "../../core/atomic-file.ts";
import { backoffDelayMs } from "../../core/backoff.ts";
import { forEachConcurrently } from "../../core/concurrency.ts";
import { withDeadline } from "../../core/deadline.ts";
import { createLog } from "../../core/log.ts";
import { nearestName } from "../../core/nearest-name.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "enclave-core-"));
});
afterAll(() => rm(directory, { recursive: true }));

test("an atomic write replaces the file, sets its mode and leaves nothing else", async () => {
  const path = join(directory, "record.json");
  await writeFileAtomic(path, "old");
  await writeFileAtomic(path, "new", { mode: 0o640 });
  expect(await readFile(path, "utf8")).toBe("new");
  expect((await stat(path)).mode & 0o777).toBe(0o640);
  expect(await readdir(directory)).toEqual(["record.json"]);
});

test("an atomic write that cannot be finished leaves no temporary file", async () => {
  const taken = join(directory, "taken");
  await mkdir(join(taken, "inner"), { recursive: true });
  await expect(writeFileAtomic(taken, "x")).rejects.toThrow();
  expect((await readdir(directory)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
});

test("backoff doubles, has a maximum, and jitter only shortens it", () => {
  const policy = { initialMs: 100, maximumMs: 1000, jitter: 0.2 };
  expect([0, 1, 2, 3, 4, 60].map((attempt) => backoffDelayMs(policy, attempt, () => 0))).toEqual([
    100, 200, 400, 800, 1000, 1000,
  ]);
  fc.assert(
    fc.property(fc.nat(1000), fc.double({ min: 0, max: 0.999, noNaN: true }), (attempt, random) => {
      const delayMs = backoffDelayMs(policy, attempt, () => random);
      expect(delayMs).toBeGreaterThanOrEqual(80);
      expect(delayMs).toBeLessThanOrEqual(1000);
    }),
  );
});

test("a composed deadline ends for either reason", async () => {
  const controller = new AbortController();
  const cancelled = withDeadline(controller.signal, 60_000);
  controller.abort(new Error("by hand"));
  expect(cancelled.reason).toMatchObject({ message: "by hand" });
  const late = withDeadline(undefined, 1);
  await new Promise((resolve) => late.addEventListener("abort", resolve));
  expect(late.reason).toMatchObject({ name: "TimeoutError" });
});

test("a log line is one JSON object with time, level, message and fields", () => {
  const lines: string[] = [];
  const log = createLog({ write: (line) => lines.push(line), now: () => 0, fields: { component: "test" } });
  log.debug("not shown");
  log.child({ service: "web" }).warn("two\nlines", { code: 7 });
  expect(lines).toHaveLength(1);
  expect(lines[0]?.endsWith("}\n")).toBe(true);
  expect(JSON.parse(lines[0] ?? "")).toEqual({
    time: "1970-01-01T00:00:00.000Z", level: "warn", message: "two\nlines", component: "test", service: "web", code: 7,
  }); // prettier-ignore
});

test("the nearest name is near, or none", () => {
  const names = ["command", "environment", "restart"];
  expect(nearestName("comand", names)).toBe("command");
  expect(nearestName("Command", names)).toBe("command");
  expect(nearestName("retsart", names)).toBe("restart");
  expect(nearestName("volumes", names)).toBeUndefined();
});

test("work is done a few at a time, and a failure is told only when all that was begun is over", async () => {
  const gate = Promise.withResolvers<void>();
  const begun: number[] = [];
  const over: number[] = [];
  const working = forEachConcurrently([1, 2, 3, 4, 5], 2, async (item) => {
    begun.push(item);
    if (item === 2) throw new Error("two");
    await gate.promise;
    over.push(item);
  });
  expect(begun).toEqual([1, 2]);
  gate.resolve();
  await expect(working).rejects.toThrow("two");
  expect(begun).toEqual([1, 2]);
  expect(over).toEqual([1]);
  const all: number[] = [];
  await forEachConcurrently(new Set([1, 2, 3]), 8, (item) => Promise.resolve(void all.push(item)));
  expect(all).toEqual([1, 2, 3]);
});
