import { expect, test } from "vitest";

import { describeExit } from "../../enclave/process-end.ts";
import { NO_COUNTERS, RunAccount, type RunCounters } from "../../enclave/run-account.ts";
import type { ServiceLimits } from "../../wire/enclave-config.ts";
import { eventually } from "./eventually.ts";
import { ManualClock } from "./manual-clock.ts";

const KILLED = describeExit(null, "SIGKILL");

class Run {
  readonly clock = new ManualClock();
  readonly seen: string[] = [];
  kills = 0;
  counters: RunCounters = NO_COUNTERS;
  readonly account: RunAccount;

  constructor(limits: ServiceLimits, before: RunCounters = NO_COUNTERS, hasCgroup = true) {
    this.counters = before;
    this.account = new RunAccount({
      limits,
      clock: this.clock,
      before,
      readCounters: hasCgroup ? () => Promise.resolve(this.counters) : undefined,
      onExcess: (excess) => this.seen.push(excess),
      kill: () => (this.kills += 1),
    });
  }

  async reasonAfter(end = KILLED): Promise<string> {
    return (await this.account.conclude(end)).end.reason;
  }
}

test("a run that breaks no limit keeps the reason of its process", async () => {
  expect(await new Run({}).reasonAfter(describeExit(7, null))).toBe("exited(7)");
  expect(await new Run({}).reasonAfter(KILLED)).toBe("crashed(SIGKILL)");
  expect(await new Run({}, NO_COUNTERS, false).reasonAfter(describeExit(0, null))).toBe("exited(0)");
});

test("exit status 137 and SIGKILL are no proof of anything", async () => {
  expect(await new Run({ memoryBytes: 1 }).reasonAfter(describeExit(137, null))).toBe("exited(137)");
  expect(await new Run({ memoryBytes: 1 }).reasonAfter(KILLED)).toBe("crashed(SIGKILL)");
});

test("memory is exceeded when the kernel counted a kill in this run, and not in one before", async () => {
  const before = { oomKills: 3, pidsRefused: 2, cpuUsec: 5 };
  expect(await new Run({}, before).reasonAfter(KILLED)).toBe("crashed(SIGKILL)");
  const run = new Run({}, before);
  run.counters = { ...before, oomKills: 4 };
  const { end, counters } = await run.account.conclude(KILLED);
  expect(end).toEqual({ reason: "memory_exceeded", clean: false });
  expect(counters).toEqual(run.counters);
});

test("refused forks are the reason of a run that failed, and not of one that went well", async () => {
  const run = (): Run =>
    Object.assign(new Run({ pids: 4 }), { counters: { ...NO_COUNTERS, pidsRefused: 1 } });
  expect(await run().reasonAfter(describeExit(1, null))).toBe("pids_exceeded");
  expect(await run().reasonAfter(describeExit(0, null))).toBe("exited(0)");
});

test("refused forks are told while the service goes on, once, and kill nothing", async () => {
  const run = new Run({ pids: 4 });
  run.counters = { ...NO_COUNTERS, pidsRefused: 1 };
  for (let polls = 0; polls < 3; polls += 1) {
    run.clock.advance(250);
    await eventually("the next poll", () => run.clock.delaysMs.length === 1);
  }
  expect(run.seen).toEqual(["pids_exceeded"]);
  expect(run.kills).toBe(0);
});

test("a kill for memory ends the whole run, also where the kernel spares the other processes", async () => {
  const run = new Run({ memoryBytes: 1 });
  run.counters = { ...NO_COUNTERS, oomKills: 1 };
  run.clock.advance(250);
  await eventually("the kill", () => run.kills === 1);
  expect(await run.reasonAfter()).toBe("memory_exceeded");
});

test("the budget of CPU time is counted from the start of the run", async () => {
  const before = { ...NO_COUNTERS, cpuUsec: 10_000_000 };
  const run = new Run({ cpuTimeMs: 1_000 }, before);
  run.counters = { ...before, cpuUsec: 10_900_000 };
  run.clock.advance(50);
  await eventually("the next poll", () => run.clock.delaysMs.length === 1);
  expect(run.kills).toBe(0);
  run.counters = { ...before, cpuUsec: 11_100_000 };
  run.clock.advance(50);
  await eventually("the kill", () => run.kills === 1);
  expect(await run.reasonAfter()).toBe("cpu_exceeded");
});

test("wall-clock time and output end a run, and the first cause counts", async () => {
  const slow = new Run({ runTimeMs: 500, outputBytes: 10 });
  slow.clock.advance(500);
  slow.account.countOutput(11);
  expect(slow.seen).toEqual(["wall_clock_exceeded"]);
  expect(slow.kills).toBe(1);
  expect(await slow.reasonAfter()).toBe("wall_clock_exceeded");
  const loud = new Run({ runTimeMs: 500, outputBytes: 10 });
  loud.account.countOutput(10);
  expect(loud.seen).toEqual([]);
  loud.account.countOutput(1);
  loud.clock.advance(500);
  expect(loud.seen).toEqual(["output_exceeded"]);
  expect(loud.account.outputBytes).toBe(11);
});

test("nothing is timed or polled after the end", async () => {
  const run = new Run({ runTimeMs: 500, cpuTimeMs: 1 });
  await run.reasonAfter();
  expect(run.clock.delaysMs).toEqual([]);
});

test("a run without cgroups is not polled", () => {
  expect(new Run({ cpuTimeMs: 1 }, NO_COUNTERS, false).clock.delaysMs).toEqual([]);
});

test("a jump of the wall clock ends nothing early and nothing late", () => {
  const run = new Run({ runTimeMs: 500 });
  const epoch = run.clock.epochMs();
  run.clock.epochMs = () => epoch + 86_400_000;
  run.clock.advance(499);
  expect(run.kills).toBe(0);
  run.clock.epochMs = () => epoch - 86_400_000;
  run.clock.advance(1);
  expect(run.kills).toBe(1);
});
