import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

import type { EnclaveStatus } from "../../wire/control.ts";
import { openTestbed, type Testbed } from "./testbed.ts";

const HEAD = `name: reloaded
mode: development
image: { base: { debian: [] } }
resources: { memory: 512MiB }
services:
  steady: { command: [sleep, infinity] }
`;
const BEFORE = `${HEAD}  changed: { command: [sleep, "1000"] }\n  gone: { command: [sleep, infinity] }\n`;
const AFTER = `${HEAD}  changed: { command: [sleep, "2000"], depends_on: [added] }\n  added: { command: [sleep, infinity] }\n`;

let directory: string;
let file: string;
let bed: Testbed;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "reload-"));
  file = join(directory, "enclave.yaml");
  await writeFile(file, BEFORE);
  bed = await openTestbed();
  await bed.succeed("up", file, "-d");
});
afterEach(async () => {
  await bed[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

function pidsOf(status: EnclaveStatus): Record<string, number | null> {
  return Object.fromEntries(status.services.map((service) => [service.name, service.pid]));
}

async function reload(...words: string[]): Promise<string> {
  return await bed.initctl("reload", "--enclave", "reloaded", ...words);
}

test("only what changed is stopped and started, and the way back is the image's own configuration", async () => {
  const before = pidsOf(await bed.initctlStatus("reloaded"));
  await writeFile(file, AFTER);
  expect(JSON.parse(await reload("--json"))).toEqual({
    added: ["added"],
    removed: ["gone"],
    changed: ["changed"],
    unchanged: ["steady"],
  });
  const status = await bed.initctlStatus("reloaded");
  const after = pidsOf(status);
  expect(Object.keys(after)).toEqual(["steady", "changed", "added"]);
  expect(after["steady"]).toBe(before["steady"]);
  expect(after["changed"]).not.toBe(before["changed"]);
  expect(status.services.map((service) => service.state)).not.toContain("failed");
  await reload("--image");
  const back = pidsOf(await bed.initctlStatus("reloaded"));
  expect(Object.keys(back)).toEqual(["steady", "changed", "gone"]);
  expect(back["steady"]).toBe(before["steady"]);
});

test.each([
  [
    "a mistake in the file",
    BEFORE.replace("command: [sleep, infinity]", "comand: [sleep]"),
    "E_CONFIG_UNKNOWN_KEY",
  ],
  [
    "a cycle",
    `${HEAD}  a: { command: [x], depends_on: [b] }\n  b: { command: [x], depends_on: [a] }\n`,
    "E_CONFIG_",
  ],
  ["other files", BEFORE.replace("debian: []", "debian: [redis-server]"), "E_RELOAD_IMAGE"],
])("a reload with %s is refused and changes nothing", async (_name, text, code) => {
  const before = pidsOf(await bed.initctlStatus("reloaded"));
  await writeFile(file, text);
  const refused = await bed.runInitctl("reload", "--enclave", "reloaded");
  expect(refused.status).not.toBe(0);
  expect(refused.stderr).toContain(code);
  expect(pidsOf(await bed.initctlStatus("reloaded"))).toEqual(before);
});

test("services that the enclave itself refuses change nothing either", async () => {
  const before = pidsOf(await bed.initctlStatus("reloaded"));
  const { dialEnclave } = await import("../../host/controller/enclave-dialer.ts");
  const { ControlClient } = await import("../../control/control-client.ts");
  const client = new ControlClient(await dialEnclave(bed.stateDir, "reloaded"));
  await expect(
    client.reload({ services: [{ name: "steady" }] }, new AbortController().signal),
  ).rejects.toMatchObject({
    code: "E_ENCLAVE_CONFIG",
  });
  expect(pidsOf(await bed.initctlStatus("reloaded"))).toEqual(before);
});
