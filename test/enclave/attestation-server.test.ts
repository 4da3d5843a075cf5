/** The supervisor's side of the attestation server, with programs in its place that say what they like. */
import { createHash } from "node:crypto";
import { lstat, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

import type { EventEntry } from "../../wire/control.ts";
import { ROOT } from "../structure/source-files.ts";
import { eventually } from "./eventually.ts";
import { ndjson, RunningSupervisor } from "./running-supervisor.ts";
import { enclaveConfig, shellService } from "./service-configs.ts";

const TALKING = join(ROOT, "test", "fixtures", "enclave", "talking-server.mjs");

async function start(name: string): Promise<RunningSupervisor> {
  const services = [shellService("web", "exec sleep 1000")];
  return await RunningSupervisor.startReady(enclaveConfig(services, { name }), { raServer: TALKING });
}

async function events(enclave: RunningSupervisor): Promise<string> {
  const messages: string[] = [];
  const response = await enclave.open("GET", "/v1/events?follow=false");
  for await (const entry of ndjson<EventEntry>(response)) messages.push(entry.message);
  return messages.join("\n");
}

test("what it reports is in the status and among the events", async () => {
  await using enclave = await start("ready");
  const told = await eventually("the report", async () => {
    const { attestationServer } = await enclave.status();
    return attestationServer.state === "ready" ? attestationServer : undefined;
  });
  expect(told).toMatchObject({
    restarts: 0,
    clockOffsetMs: -3,
    documentTimeMs: 7,
    clockJumps: 1,
    reason: null,
  });
  expect(await events(enclave)).toContain("the clock jumped against that of the documents");
});

test("it learns what is measured, and nothing else", async () => {
  await using enclave = await start("settings");
  const message = await eventually("the settings", async () => {
    return (await enclave.status()).attestationServer.reason?.message;
  });
  const config = await readFile(join(enclave.directory, "enclave.json"));
  expect(JSON.parse(message)).toEqual({
    name: "settings",
    mode: "development",
    provider: "development",
    clientCa: null,
    image: { toolkit: "0.0.0", lock: null, config: createHash("sha256").update(config).digest("hex") },
  });
});

test.each(["garbage", "endless"])("one that says %s is killed, and services go on", async (name) => {
  await using enclave = await start(name);
  const { pid } = await enclave.untilState("web", "running");
  await eventually("another one", async () => {
    const { attestationServer } = await enclave.status();
    return attestationServer.restarts >= 2 || undefined;
  });
  expect(await events(enclave)).toContain("ra-server killed: line: ");
  expect(await enclave.service("web")).toMatchObject({ state: "running", pid });
});

test("its socket is there before it is, and stays when it dies", async () => {
  await using enclave = await start("garbage");
  await enclave.untilState("web", "running");
  const first = await lstat(enclave.socketPath(8443));
  await eventually("another one", async () => {
    return (await enclave.status()).attestationServer.restarts >= 1 || undefined;
  });
  const second = await lstat(enclave.socketPath(8443));
  expect(first.isSocket()).toBe(true);
  expect(second.ino).toBe(first.ino);
});
