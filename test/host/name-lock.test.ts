import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

import { lockName } from "../../host/state/name-lock.ts";

const FIXTURE = join(import.meta.dirname, "..", "fixtures", "host", "lock-holder.ts");

let stateDir: string;
beforeAll(async () => {
  stateDir = await mkdtemp(join(tmpdir(), "lock-"));
});
afterAll(() => rm(stateDir, { recursive: true }));

test("of many that want a name each gets it, one at a time", async () => {
  let holders = 0;
  const seen: number[] = [];
  const visit = async (): Promise<void> => {
    await using _lock = await lockName(stateDir, "shared");
    holders += 1;
    seen.push(holders);
    await new Promise((resolve) => setImmediate(resolve));
    holders -= 1;
  };
  await Promise.all(Array.from({ length: 25 }, visit));
  expect(seen).toEqual(Array.from({ length: 25 }, () => 1));
});

test("names, and state directories, do not hinder one another", async () => {
  await using _one = await lockName(stateDir, "one");
  await using _two = await lockName(stateDir, "two", 1_000);
  await using _other = await lockName(join(stateDir, "other"), "one", 1_000);
});

test("whoever does not get the name in time is told so", async () => {
  await using _held = await lockName(stateDir, "held");
  await expect(lockName(stateDir, "held", 50)).rejects.toMatchObject({
    code: "E_HOST_NAME_IN_USE",
    message: expect.stringContaining("held"),
  });
});

test("the lock of a process that is killed is free at once", async () => {
  const holder = spawn(process.execPath, [FIXTURE, stateDir, "orphan"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(holder.stdout, "data");
  await expect(lockName(stateDir, "orphan", 50)).rejects.toMatchObject({ code: "E_HOST_NAME_IN_USE" });
  const waiting = lockName(stateDir, "orphan");
  holder.kill("SIGKILL");
  await using _lock = await waiting;
});
