import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { findPart, leftovers, PARTS } from "./enclave-processes.ts";
import { type CommandResult, openTestbed, type Status, type Testbed, waitFor } from "./testbed.ts";

/** The slow one starts and stops so slowly that something can happen meanwhile. */
const ENCLAVE = `name: victim
mode: development
image: { base: { debian: [] } }
resources: { memory: 512MiB }
services:
  steady: { command: [sleep, "987654"], restart: always }
  slow:
    command: [sh, -c, "trap 'sleep 2; exit 0' TERM; sleep 1; : > /tmp/up; while :; do sleep 0.1; done"]
    stop_grace_period: 8s
    healthcheck: { test: [CMD, test, -e, /tmp/up], interval: 100ms, start_period: 5s }
`;
const STEADY = /sleep 987654/;
type Part = keyof typeof PARTS;

let directory: string;
let file: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "failures-"));
  file = join(directory, "enclave.yaml");
  await writeFile(file, ENCLAVE);
});
afterAll(() => rm(directory, { recursive: true }));

async function partOf(bed: Testbed, pattern: RegExp): Promise<number> {
  return await waitFor(`a process like ${String(pattern)}`, async () => await findPart(bed, pattern));
}

async function isGone(bed: Testbed): Promise<void> {
  await waitFor("everything to be gone", async () => {
    const left = await leftovers(bed);
    return left.length === 0 ? true : undefined;
  });
}

async function recordOf(bed: Testbed): Promise<Status | undefined> {
  return (await bed.ps())[0];
}

/** Waits until the record says one of the states. */
async function untilState(bed: Testbed, ...states: string[]): Promise<Status> {
  return await waitFor(`state ${states.join(" or ")}`, async () => {
    const record = await recordOf(bed);
    return record !== undefined && states.includes(record.state) ? record : undefined;
  });
}

const FATAL: readonly Part[] = ["runner", "launcher", "init"];
const MENDED: readonly Part[] = ["supervisor", "gateway"];

describe("killed while the enclave starts", () => {
  test.each(FATAL)("%s: up fails with a reason, and nothing is left", async (part) => {
    await using bed = await openTestbed();
    const up = bed.run("up", file, "-d");
    process.kill(await partOf(bed, PARTS[part]), "SIGKILL");
    const { status, stderr } = await up;
    expect(status).not.toBe(0);
    expect(stderr).toMatch(/error\[E_HOST_\w+\]: /);
    await isGone(bed);
  });

  test.each(MENDED)("%s: it is started again, and the enclave comes up", async (part) => {
    await using bed = await openTestbed();
    const up = bed.run("up", file, "-d");
    process.kill(await partOf(bed, PARTS[part]), "SIGKILL");
    const { status, stderr } = await up;
    expect(stderr + String(status)).toMatch(/0$/);
    expect((await recordOf(bed))?.reason).toMatch(new RegExp(`${part}.* restarted 1 time`));
  });
});

describe("killed while the enclave stops", () => {
  test.each<Part>([...FATAL, ...MENDED])("%s: the stop ends, and nothing is left", async (part) => {
    await using bed = await openTestbed();
    await bed.succeed("up", file, "-d");
    const victim = await partOf(bed, PARTS[part]);
    const stop = bed.run("stop", "victim");
    await untilState(bed, "stopping");
    process.kill(victim, "SIGKILL");
    await stop;
    await untilState(bed, "stopped", "failed");
    await isGone(bed);
  });
});

describe("stopped by SIGSTOP while the enclave runs", () => {
  test.each<Part>([...FATAL, ...MENDED])(
    "%s: status answers, down ends in time, and nothing is left",
    async (part) => {
      await using bed = await openTestbed();
      await bed.succeed("up", file, "-d");
      const victim = await partOf(bed, PARTS[part]);
      process.kill(victim, "SIGSTOP");
      expect((await bed.status("victim")).name).toBe("victim");
      const down: CommandResult = await bed.run("down", "victim");
      expect(down.stderr + String(down.status)).toBe("0");
      await isGone(bed);
    },
    60_000,
  );

  test("a service: it is killed when its time to stop is over", async () => {
    await using bed = await openTestbed();
    await bed.succeed("up", file, "-d");
    process.kill(await partOf(bed, STEADY), "SIGSTOP");
    await bed.succeed("down", "victim");
    await isGone(bed);
  });
});

test("starved of processor time by its own services, an enclave is still seen, reached and stopped", async () => {
  await using bed = await openTestbed();
  const busy = Array.from(
    { length: 6 },
    (_item, index) => `  busy${index}: { command: [sh, -c, "while :; do :; done"] }\n`,
  );
  const path = join(directory, "busy.yaml");
  const head = ENCLAVE.slice(0, ENCLAVE.indexOf("services:")).replace("victim", "busy");
  await writeFile(path, `${head}services:\n${busy.join("")}`);
  await bed.succeed("up", path, "-d");
  expect(await bed.succeed("exec", "busy", "--", "echo", "answered")).toBe("answered\n");
  expect((await bed.initctlStatus("busy")).services.map((service) => service.state)).toEqual(
    busy.map(() => "running"),
  );
  await bed.succeed("down", "busy");
  await isGone(bed);
}, 60_000);
