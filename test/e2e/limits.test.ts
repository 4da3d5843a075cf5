import { copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

import { openTestbed, ROOT, runCommand, type Status, type Testbed, waitFor } from "./testbed.ts";

const isRoot = process.getuid?.() === 0;
/** The first start makes a flag and ends well, so that the enclave comes up; the second one is the real thing. */
const LATER = "[ -e /tmp/$NAME ] || { : > /tmp/$NAME; exit 0; };";

const ENCLAVE = `name: limits
mode: development
image: { base: { debian: [] }, copy: [{ from: ./app, to: /app }] }
resources: { memory: 768MiB }
services:
  neighbour: { command: [sleep, infinity] }
  memory:
    command: [sh, -c, "${LATER} exec node -e 'const all = []; for (;;) all.push(Buffer.alloc(1048576, 1))'"]
    environment: { NAME: memory }
    mem_limit: 96MiB
  child:
    command: [sh, -c, "${LATER} node -e 'const all = []; for (;;) all.push(Buffer.alloc(1048576, 1))'; sleep 1000"]
    environment: { NAME: child }
    mem_limit: 96MiB
  pids:
    command: [sh, -c, "${LATER} for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; exit 1"]
    environment: { NAME: pids }
    pids_limit: 8
  cpu:
    command: [sh, -c, "${LATER} while :; do :; done"]
    environment: { NAME: cpu }
    cpu_time_limit: 300ms
  clock:
    command: [sh, -c, "${LATER} exec sleep 1000"]
    environment: { NAME: clock }
    run_time_limit: 300ms
  output:
    command: [sh, -c, "${LATER} exec yes"]
    environment: { NAME: output }
    output_limit: 1MiB
  filter:
    command: [sh, -c, "${LATER} exec /app/foreign"]
    environment: { NAME: filter }
  crash:
    command: [sh, -c, "${LATER} kill -SEGV $$"]
    environment: { NAME: crash }
  status:
    command: [sh, -c, "${LATER} exit 137"]
    environment: { NAME: status }
`.replaceAll("$", "$");

let directory: string;
let bed: Testbed;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "limits-"));
  await mkdir(join(directory, "app"));
  const source = join(ROOT, "test", "fixtures", "e2e", "foreign-call.c");
  await runCommand(["cc", "-static", "-O1", "-o", join(directory, "foreign"), source]);
  await copyFile(join(directory, "foreign"), join(directory, "app", "foreign"));
  await writeFile(join(directory, "enclave.yaml"), ENCLAVE);
  bed = await openTestbed();
  await bed.succeed("up", join(directory, "enclave.yaml"), "-d");
});
afterAll(async () => {
  await bed[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

function serviceOf(status: Status, name: string): Status["services"][number] {
  const service = status.services.find((one) => one.name === name);
  if (service === undefined) throw new Error(`no service ${name}`);
  return service;
}

const cases: readonly (readonly [string, string, boolean])[] = [
  ["memory", "memory_exceeded", true],
  ["child", "memory_exceeded", true],
  ["pids", "pids_exceeded", true],
  ["cpu", "cpu_exceeded", true],
  ["clock", "wall_clock_exceeded", false],
  ["output", "output_exceeded", false],
  ["filter", "syscall_denied", false],
  ["crash", "crashed(SIGSEGV)", false],
  ["status", "exited(137)", false],
];

test.each(cases)(
  "a service that breaks its limit, %s, ends with the reason %s everywhere, and its neighbour goes on",
  async (name, reason, needsCgroups) => {
    if (needsCgroups && !isRoot) return; // told by the test below
    const neighbour = serviceOf(await bed.status("limits"), "neighbour");
    await bed.initctl("start", name, "--no-wait", "--enclave", "limits");
    await waitFor(`the end of ${name}`, async () => {
      const service = serviceOf(await bed.status("limits"), name);
      return service.state === "failed" && service.reason === reason ? true : undefined;
    });
    expect(await bed.initctl("status", "--enclave", "limits", "--json")).toContain(`"reason": "${reason}"`);
    const events = await bed.initctl("events", "--enclave", "limits", "--json");
    expect(
      events
        .split("\n")
        .filter((line) => line.includes(`"${name}"`))
        .join("\n"),
    ).toContain(reason);
    expect(serviceOf(await bed.status("limits"), "neighbour")).toEqual(neighbour);
  },
);

test("status tells which limits hold", async () => {
  const { services } = await bed.status("limits");
  const limits = services.flatMap((service) => service.limits);
  expect(limits.map((limit) => limit.name).sort()).toEqual([
    "cpu_time",
    "memory",
    "memory",
    "output",
    "pids",
    "run_time",
  ]);
  for (const { name, enforced, why } of limits) {
    const holds = isRoot || name === "run_time" || name === "output";
    expect({ name, enforced, why: why === null }).toEqual({ name, enforced: holds, why: holds });
  }
});

test("a service that an operator stops was stopped by an operator", async () => {
  await bed.initctl("stop", "neighbour", "--enclave", "limits");
  const service = serviceOf(await bed.status("limits"), "neighbour");
  expect(service).toMatchObject({ state: "stopped", reason: "stopped_by_operator", pid: null });
});
