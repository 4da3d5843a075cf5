/** Reloads through the control API: what is the same goes on, what is refused changes nothing. */
import { afterEach, beforeEach, expect, test } from "vitest";

import type { ReloadResult } from "../../wire/control.ts";
import type { ServiceConfig } from "../../wire/enclave-config.ts";
import { eventually } from "./eventually.ts";
import { postJson } from "./raw-session.ts";
import { isAlive } from "./running-group.ts";
import { RunningSupervisor } from "./running-supervisor.ts";
import { enclaveConfig, shellService } from "./service-configs.ts";

const OWN = [shellService("a", "exec sleep 1000"), shellService("b", "exec sleep 1000")];
let enclave: RunningSupervisor;

beforeEach(async () => {
  enclave = await RunningSupervisor.startReady(enclaveConfig(OWN));
  for (const { name } of OWN) await enclave.untilState(name, "running");
});
afterEach(async () => {
  await enclave[Symbol.asyncDispose]();
});

async function reload(
  services?: readonly unknown[],
): Promise<{ readonly status: number; readonly body: unknown }> {
  return await postJson(enclave, "/v1/reload", services === undefined ? {} : { services });
}

async function pids(): Promise<Record<string, number | null>> {
  const { services } = await enclave.status();
  return Object.fromEntries(services.map(({ name, pid }) => [name, pid]));
}

function service(name: string, rest: Partial<ServiceConfig> = {}): ServiceConfig {
  return shellService(name, "exec sleep 1000", rest);
}

test("only what is another service than before gets another process", async () => {
  const before = await pids();
  const next = [service("a"), service("b", { environment: { NEW: "yes" } }), service("c")];
  expect(await reload(next)).toEqual({
    status: 200,
    body: { added: ["c"], removed: [], changed: ["b"], unchanged: ["a"] } satisfies ReloadResult,
  });
  for (const name of ["b", "c"]) await enclave.untilState(name, "running");
  const after = await pids();
  expect(after["a"]).toBe(before["a"]);
  expect(after["b"]).not.toBe(before["b"]);
  expect(await isAlive(before["b"] ?? 0)).toBe(false);
  expect((await enclave.status()).overridden).toBe(true);
});

test("no services at all is a set as well, and none given are the image's own", async () => {
  const before = await pids();
  expect(await reload([])).toMatchObject({ body: { removed: ["a", "b"] } });
  expect((await enclave.status()).services).toEqual([]);
  for (const pid of Object.values(before)) expect(await isAlive(pid ?? 0)).toBe(false);
  expect(await reload()).toMatchObject({ body: { added: ["a", "b"] } });
  expect((await enclave.status()).overridden).toBe(false);
  for (const { name } of OWN) await enclave.untilState(name, "running");
});

test("a service that was added prints as those of the image do", async () => {
  await reload([...OWN, shellService("loud", "echo hello; echo again > /dev/stdout; exec sleep 1000")]);
  await eventually("both lines", async () => (await enclave.lines("?service=loud")).length === 2);
});

test.skipIf(process.getuid?.() !== 0)(
  "a service that gets another user can still open its own output",
  async () => {
    const user = { name: "other", uid: 4711, gid: 4711, groups: [], home: "/" };
    await reload([shellService("a", "echo opened > /dev/stdout; exec sleep 1000", { user })]);
    await eventually("its line", async () => (await enclave.lines("?service=a")).includes("opened"));
  },
);

test.each([
  ["what is no service", [{ name: "x" }]],
  ["a name twice", [service("x"), service("x")]],
  [
    "a dependency that is not there",
    [service("x", { dependsOn: [{ service: "y", condition: "service_started" }] })],
  ],
  [
    "a cycle",
    [
      service("x", { dependsOn: [{ service: "y", condition: "service_started" }] }),
      service("y", { dependsOn: [{ service: "x", condition: "service_started" }] }),
    ],
  ],
  ["an unknown key", [{ ...service("x"), privileged: true }]],
  ["an empty command", [service("x", { command: [] })]],
  ["a limit below zero", [service("x", { limits: { pids: -1 } })]],
])("%s is refused and changes nothing", async (_name, services) => {
  const before = await pids();
  expect(await reload(services)).toMatchObject({ status: 400, body: { code: "E_ENCLAVE_CONFIG" } });
  expect(await pids()).toEqual(before);
  expect((await enclave.status()).overridden).toBe(false);
});

test.each([
  ["more services than there may be", Array.from({ length: 257 }, (_item, index) => service(`s${index}`))],
  ["numbers that become longer on the way", [{ a: Array.from({ length: 90_000 }, () => 1e20) }], "1e20"],
  ["no list", "all"],
])(
  "%s is refused as a request, however often it comes",
  async (_name, services, short?: string) => {
    const long = JSON.stringify({ services });
    const body = short === undefined ? long : long.replaceAll(String(1e20), short);
    for (let round = 0; round < (short === undefined ? 1 : 130); round += 1) {
      expect(await postJson(enclave, "/v1/reload", body)).toMatchObject({
        status: 400,
        body: { code: "E_CONTROL_REQUEST" },
      });
    }
    expect((await enclave.status()).services).toHaveLength(2);
  },
  60_000,
);

test("reloads at the same time are carried out one after the other", async () => {
  const sets = Array.from({ length: 6 }, (_item, index) => [service("a"), service(`extra${index}`)]);
  const results = await Promise.all(sets.map(async (set) => await reload(set)));
  expect(results.map(({ status }) => status)).toEqual(sets.map(() => 200));
  const { services } = await enclave.status();
  expect(services).toHaveLength(2);
  const { text } = await enclave.request("GET", "/v1/events?follow=false");
  const started = text.match(/"service":"extra\d","message":"running"/g)?.length ?? 0;
  expect(started).toBeGreaterThan(0);
  for (const result of results.slice(1)) {
    const { added, removed } = result.body as ReloadResult;
    expect([added.length, removed.length]).toEqual([1, 1]);
  }
});

test("an enclave that stops takes no reload", async () => {
  const slow = shellService("slow", "trap 'sleep 3; exit 0' TERM; echo up; while :; do sleep 0.1; done");
  await reload([slow]);
  await eventually("its first line", async () => (await enclave.lines("?service=slow")).length > 0);
  await enclave.request("POST", "/v1/poweroff");
  expect(await reload()).toMatchObject({ status: 409, body: { code: "E_ENCLAVE_STOPPING" } });
});
