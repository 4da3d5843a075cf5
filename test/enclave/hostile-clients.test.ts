/** Clients of the control API that mean harm, or have lost their minds: they cost a bound, and others are served again. */
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";

import { eventually } from "./eventually.ts";
import { RunningSupervisor } from "./running-supervisor.ts";
import { enclaveConfig, shellService } from "./service-configs.ts";

const WAVES = 25;
const WAVE = 400;
const running: { enclave?: RunningSupervisor } = {};

function enclave(): RunningSupervisor {
  if (running.enclave === undefined) throw new Error("not started");
  return running.enclave;
}

beforeAll(async () => {
  running.enclave = await RunningSupervisor.startReady(
    enclaveConfig([shellService("web", "exec sleep 1000")]),
  );
});
afterAll(async () => {
  await running.enclave?.[Symbol.asyncDispose]();
});

function open(): Socket {
  const socket = connect(enclave().socketPath(9001));
  socket.on("error", () => undefined);
  return socket;
}

async function isOpenOrRefused(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once("connect", resolve).once("close", resolve);
  await promise;
}

async function isClosed(socket: Socket): Promise<void> {
  if (socket.closed) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once("close", resolve).resume();
  await promise;
}

async function isServed(): Promise<true | undefined> {
  const status = await enclave()
    .status()
    .catch(() => undefined);
  return status?.services.length === 1 ? true : undefined;
}

async function gatewayMib(): Promise<number> {
  const { gateway } = await enclave().status();
  const status = await readFile(`/proc/${gateway.pid ?? 0}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
}

test("10,000 connections that say nothing are bounded, and the same gateway serves afterwards", async () => {
  const { gateway } = await enclave().status();
  const before = await gatewayMib();
  for (let wave = 0; wave < WAVES; wave += 1) {
    const sockets = Array.from({ length: WAVE }, open);
    await Promise.all(sockets.map(isOpenOrRefused));
    for (const socket of sockets) socket.destroy();
  }
  await eventually("an answer", isServed);
  expect((await enclave().status()).gateway).toEqual(gateway);
  expect((await gatewayMib()) - before).toBeLessThan(48);
}, 60_000);

test("connections that stay silent, or stop in the middle of a head, are closed in time for others", async () => {
  const half = Array.from({ length: 70 }, open);
  for (const socket of half) socket.write("GET /v1/status HTTP/1.1\r\nHost: encl");
  await Promise.all(half.map(isClosed));
  await eventually("an answer", isServed);
}, 30_000);

test.each([
  ["garbage", Buffer.from(Array.from({ length: 4096 }, (_item, index) => (index * 131) % 256))],
  ["another protocol", Buffer.from("CONNECT 9001\n\n\n")],
  [
    "a head without end",
    Buffer.from(`GET /v1/status HTTP/1.1\r\n${"X-Filler: aaaaaaaaaaaaaaaa\r\n".repeat(2_000)}`),
  ],
  [
    "two lengths",
    Buffer.from("POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
  ],
  [
    "a length and chunks",
    Buffer.from(
      "POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
  ],
])("%s is answered with a refusal and closed", async (_name, bytes) => {
  const socket = open();
  socket.write(bytes);
  expect(await text(socket).catch(() => "HTTP/1.1 4")).toMatch(/^(?:HTTP\/1\.1 4|$)/);
  expect(await isServed()).toBe(true);
});

test("a stream of an unknown session, and an upgrade to something else, are refused as answers", async () => {
  const upgrade = (path: string, protocol: string): string =>
    `POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\nContent-Length: 2\r\n\r\n{}`;
  for (const [path, protocol, code] of [
    ["/v1/exec/77/start", "enclave-stream", "E_EXEC_UNKNOWN"],
    ["/v1/exec/77/start", "websocket", "E_CONTROL_REQUEST"],
    ["/v1/exec/x/start", "enclave-stream", "E_CONTROL_REQUEST"],
    ["/v1/status", "enclave-stream", "E_CONTROL_NOT_FOUND"],
    ["/v1/services/nobody/attach", "enclave-stream", "E_SERVICE_UNKNOWN"],
  ] as const) {
    const socket = open();
    socket.write(upgrade(path, protocol));
    expect(await text(socket)).toContain(code);
  }
});

test("bodies beyond their limits are refused before they come, and change nothing", async () => {
  const socket = open();
  socket.write(
    "POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 600000\r\n\r\n{",
  );
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 [^]*E_CONTROL_REQUEST/);
  expect(await isServed()).toBe(true);
});
