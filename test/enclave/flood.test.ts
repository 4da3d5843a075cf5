import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

import { LOG_FILE_LIMITS } from "../../enclave/log-file.ts";
import { eventually } from "./eventually.ts";
import { RunningSupervisor } from "./running-supervisor.ts";
import { enclaveConfig, shellService } from "./service-configs.ts";

const MIB = 1024 * 1024;

async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) * 1024;
}

/** 200 MB of output: lines of 100 characters, and one line without an end. */
test.each([
  ["lines", "head -c 200000000 /dev/zero | tr '\\0' x | fold -w 100"],
  ["one endless line", "head -c 200000000 /dev/zero | tr '\\0' x"],
])("a service that prints 200 MB (%s) grows neither memory nor files without bound", async (_, script) => {
  await using enclave = await RunningSupervisor.startReady(
    enclaveConfig([
      shellService("loud", `${script}; echo; echo end`),
      shellService("other", "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.05; done"),
    ]),
  );
  let largest = 0;
  let ticks = 0;
  const pid = enclave.process.pid ?? 0;
  await eventually("the end of the flood", async () => {
    largest = Math.max(largest, await residentBytes(pid));
    const { state } = await enclave.service("loud");
    if (state === "running") ticks = Math.max(ticks, (await enclave.lines("?service=other")).length);
    return state === "exited";
  });
  // A supervisor at rest has about 80 MB when it runs from sources; keeping the output would take 200 more.
  expect(largest).toBeLessThan(200 * MIB);
  expect(ticks).toBeGreaterThan(0);
  expect(await enclave.lines("?service=loud&tail=1")).toEqual(["end"]);
  const kept = (await enclave.lines("?service=loud")).reduce((sum, line) => sum + Buffer.byteLength(line), 0);
  expect(kept).toBeLessThanOrEqual(MIB + 100);
  const folder = join(enclave.directory, "log");
  const names = (await readdir(folder)).filter((name) => name.startsWith("loud"));
  expect(names.length).toBeLessThanOrEqual(LOG_FILE_LIMITS.files);
  for (const name of names)
    expect((await stat(join(folder, name))).size).toBeLessThan(LOG_FILE_LIMITS.fileBytes + MIB);
});
