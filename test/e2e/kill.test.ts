import { join } from "node:path";
import { expect, test } from "vitest";

import { descendants, leftovers } from "./enclave-processes.ts";
import { fetchText, isAlive, openTestbed, ROOT, type Status, type Testbed, waitFor } from "./testbed.ts";

const HELLO = join(ROOT, "examples", "hello", "enclave.yaml");
const TRUTH_TIMEOUT_MS = 2_000;

async function find(runner: number, pattern: RegExp): Promise<number> {
  const found = (await descendants(runner)).find((one) => pattern.test(one.command));
  if (found === undefined) throw new Error(`no process of the enclave matches ${String(pattern)}`);
  return found.pid;
}

async function start(bed: Testbed): Promise<Status & { runner: { pid: number } }> {
  await bed.succeed("up", HELLO, "-d", "-p", "127.0.0.1:0:8080");
  const status = await bed.status("hello");
  return { ...status, runner: { pid: status.runner.pid ?? 0 } };
}

test.each([
  ["runner", undefined, /runner/],
  ["init", /^\/opt\/enclave\/init/, /init.*SIGKILL/],
])("kill -9 of %s: the record tells it, nothing is left, up works again", async (_name, pattern, reason) => {
  await using bed = await openTestbed();
  const status = await start(bed);
  const family = [status.runner.pid, ...(await descendants(status.runner.pid)).map((one) => one.pid)];
  expect(family.length).toBeGreaterThanOrEqual(5);
  process.kill(pattern === undefined ? status.runner.pid : await find(status.runner.pid, pattern), "SIGKILL");
  const failed = await waitFor(
    "ps to tell",
    async () => {
      const [record] = await bed.ps();
      return record?.state === "failed" ? record : undefined;
    },
    TRUTH_TIMEOUT_MS,
  );
  expect(failed.reason).toMatch(reason);
  for (const pid of family) expect(await isAlive(pid), `process ${pid}`).toBe(false);
  expect(await leftovers(bed)).toEqual([]);
  const again = await start(bed);
  expect(await fetchText(again.ports[0]?.hostPort ?? 0)).toContain("from inside");
});

test.each([
  ["supervisor", /supervisor\.mjs/, /supervisor.*SIGKILL.*restarted 1/],
  ["gateway", /gateway\.mjs/, /gateway.*restarted 1/],
])("kill -9 of the %s: it is started again and status says so", async (_name, pattern, reason) => {
  await using bed = await openTestbed();
  const status = await start(bed);
  process.kill(await find(status.runner.pid, pattern), "SIGKILL");
  const told = await waitFor(
    "status to tell",
    async () => {
      const now = await bed.status("hello");
      return now.reason !== null && reason.test(now.reason) ? now : undefined;
    },
    TRUTH_TIMEOUT_MS,
  );
  expect(told.runner.pid).toBe(status.runner.pid);
  await waitFor("the service to answer again", async () => {
    const body = await fetchText(told.ports[0]?.hostPort ?? 0).catch(() => undefined);
    return body?.includes("from inside") === true ? body : undefined;
  });
  expect((await bed.status("hello")).state).toBe("running");
});

test("kill -9 of a service: it is restarted by its policy and counted", async () => {
  await using bed = await openTestbed();
  const status = await start(bed);
  process.kill(await find(status.runner.pid, /app\/server\.js/), "SIGKILL");
  const told = await waitFor(
    "the restart",
    async () => {
      const [service] = (await bed.status("hello")).services;
      return service?.restarts === 1 && service.health === "healthy" ? service : undefined;
    },
    TRUTH_TIMEOUT_MS,
  );
  expect(told.state).toBe("running");
  expect(await fetchText(status.ports[0]?.hostPort ?? 0)).toContain("from inside");
});
