import type { Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";

import type { EventEntry, LogEntry } from "../../wire/control.ts";
import { dial } from "../pf-proxy/relay-chain.ts";
import { eventually } from "./eventually.ts";
import { ndjson, RunningSupervisor } from "./running-supervisor.ts";
import { enclaveConfig, shellService } from "./service-configs.ts";

const SERVICES = [
  shellService("count", "i=0; while test $i -lt 5; do i=$((i+1)); echo line $i; done; exec sleep 1000"),
  shellService(
    "loud",
    "yes 'a line of some length, so that megabytes come together soon' | head -n 60000; exec sleep 1000",
  ),
  shellService("quiet", "exec sleep 1000"),
];
const running: { enclave?: RunningSupervisor } = {};

function enclave(): RunningSupervisor {
  if (running.enclave === undefined) throw new Error("not started");
  return running.enclave;
}

beforeAll(async () => {
  running.enclave = await RunningSupervisor.startReady(enclaveConfig(SERVICES));
  await eventually("all lines", async () => (await enclave().lines("?service=count")).length === 5);
});

afterAll(async () => {
  await running.enclave?.[Symbol.asyncDispose]();
});

test.each([
  ["GET", "/", 404, "E_CONTROL_NOT_FOUND"],
  ["GET", "/v1/nothing?x=1", 404, "E_CONTROL_NOT_FOUND"],
  ["POST", "/v1/status", 404, "E_CONTROL_NOT_FOUND"],
  ["GET", "/v1/poweroff", 404, "E_CONTROL_NOT_FOUND"],
  ["GET", "/v1/status?verbose=1", 400, "E_CONTROL_REQUEST"],
  ["GET", "/v1/events?after=-1", 400, "E_CONTROL_REQUEST"],
  ["GET", "/v1/events?after=1&after=2", 400, "E_CONTROL_REQUEST"],
  ["GET", "/v1/logs?tail=x", 400, "E_CONTROL_REQUEST"],
  ["GET", "/v1/logs?tail=1e3", 400, "E_CONTROL_REQUEST"],
  ["GET", "/v1/logs?follow=yes", 400, "E_CONTROL_REQUEST"],
  ["GET", "/v1/logs?unknown=1", 400, "E_CONTROL_REQUEST"],
  ["GET", `/v1/logs?${"service=a&".repeat(300)}`, 400, "E_CONTROL_REQUEST"],
  ["GET", "/v1/logs?service=nobody", 404, "E_SERVICE_UNKNOWN"],
  ["GET", "/%zz", 400, "E_CONTROL_REQUEST"],
  ["POST", "/v1/poweroff?now=1", 400, "E_CONTROL_REQUEST"],
])("%s %s is refused with %i %s", async (method, path, status, code) => {
  const answer = await enclave().request(method, path);
  expect({ status: answer.status, ...(JSON.parse(answer.text) as object) }).toEqual({
    status,
    code,
    message: expect.any(String) as unknown,
    hint: expect.stringMatching(/.+/) as unknown,
    details: {},
  });
});

test("a body beyond the limit is refused and powers nothing off", async () => {
  const { status, text } = await enclave().request("POST", "/v1/poweroff", "x".repeat(10_000));
  expect({ status, code: (JSON.parse(text) as { code: string }).code }).toEqual({
    status: 400,
    code: "E_CONTROL_REQUEST",
  });
  expect((await enclave().status()).stopping).toBe(false);
});

test("logs: all lines, a tail, what comes after a number, one service", async () => {
  expect(await enclave().lines("?service=count")).toEqual(["line 1", "line 2", "line 3", "line 4", "line 5"]);
  expect(await enclave().lines("?service=count&tail=2")).toEqual(["line 4", "line 5"]);
  expect(await enclave().lines("?service=quiet")).toEqual([]);
  const { text } = await enclave().request("GET", "/v1/logs?service=count&tail=3");
  const entries = text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as LogEntry);
  expect(entries[0]).toEqual({
    seq: expect.any(Number) as unknown,
    time: expect.any(Number) as unknown,
    service: "count",
    stream: "stdout",
    line: "line 3",
  });
  expect(await enclave().lines(`?service=count&after=${entries[1]?.seq ?? 0}`)).toEqual(["line 5"]);
});

test("logs: what was overwritten is told as a gap, first", async () => {
  await eventually(
    "the last line of the flood",
    async () => (await enclave().lines("?service=loud")).length === 10_000,
  );
  const { text } = await enclave().request("GET", "/v1/logs?service=loud");
  const [first, ...rest] = text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as unknown);
  expect(first).toEqual({ dropped: 50_000 });
  expect(rest).toHaveLength(10_000);
});

test("logs are followed as they come, and the answer begins before the first line", async () => {
  const response = await enclave().open("GET", "/v1/logs?service=quiet&follow=true");
  expect(response.statusCode).toBe(200);
  expect(response.headers["content-type"]).toBe("application/x-ndjson");
  response.destroy();
});

test("events: everything so far, then what happens", async () => {
  const response = await enclave().open("GET", "/v1/events");
  const seen: EventEntry[] = [];
  for await (const event of ndjson<EventEntry>(response)) {
    seen.push(event);
    if (event.service === "quiet" && event.message === "running") break;
  }
  expect(seen[0]).toMatchObject({ type: "enclave", service: null, message: "supervisor 1 started" });
  expect(seen.map(({ seq }) => seq)).toEqual(seen.map((_, index) => (seen[0]?.seq ?? 0) + index));
  response.destroy();
});

test("clients that follow and go away leave nothing behind that would keep others out", async () => {
  for (let round = 0; round < 100; round += 1) {
    const response = await enclave().open(
      "GET",
      `/v1/${round % 2 === 0 ? "events" : "logs?follow=true&service=quiet"}`,
    );
    response.on("error", () => undefined).destroy();
  }
  const open = await Promise.all(
    Array.from({ length: 40 }, () => enclave().open("GET", "/v1/logs?follow=true&service=quiet")),
  );
  expect(open.map(({ statusCode }) => statusCode)).toEqual(open.map(() => 200));
  expect((await enclave().status()).services).toHaveLength(3);
  for (const response of open) response.on("error", () => undefined).destroy();
});

test("a client that never reads stops neither the services nor other clients", async () => {
  const stalled: Socket[] = [];
  for (let index = 0; index < 5; index += 1) {
    const socket = await dial({ path: enclave().socketPath(9001) });
    socket.on("error", () => undefined).pause();
    socket.write("GET /v1/logs?service=loud&follow=true HTTP/1.1\r\nHost: enclave\r\n\r\n");
    stalled.push(socket);
  }
  expect((await enclave().lines("?service=loud")).length).toBe(10_000);
  expect((await enclave().status()).services).toHaveLength(3);
  for (const socket of stalled) socket.destroy();
});

test("bytes that are no HTTP are answered with an error", async () => {
  for (const bytes of ["\0\0\0\0", "GET / HTTP/9.9\r\n\r\n", `GET /${"x".repeat(100_000)} HTTP/1.1\r\n`]) {
    const socket = await dial({ path: enclave().socketPath(9001) });
    let text = "";
    socket.on("error", () => undefined).on("data", (chunk) => (text += String(chunk)));
    socket.write(bytes);
    await eventually("an answer", () => text.endsWith("}"));
    expect(text).toMatch(/^HTTP\/1\.1 400 .*E_CONTROL_REQUEST/s);
    socket.destroy();
  }
  expect((await enclave().status()).gateway.restarts).toBe(0);
});
