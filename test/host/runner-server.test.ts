import { lstat, mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

import { openRunnerServer } from "../../host/runner/runner-server.ts";
import { recordOf } from "./record-of.ts";

let directory: string;
let path: string;
let server: AsyncDisposable;
let stops: (string | undefined)[];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rs-"));
  path = join(directory, "runner.sock");
  stops = [];
  server = await openRunnerServer({
    path,
    record: () => recordOf("x", { reason: "because" }),
    stop: (reason) => stops.push(reason),
  });
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

function ask(method: string, target: string): Promise<{ status: number | undefined; body: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number | undefined; body: string }>();
  const sent = request({ socketPath: path, method, path: target, agent: false }, (response) => {
    let body = "";
    response.setEncoding("utf8").on("data", (chunk: string) => (body += chunk));
    response.once("end", () => resolve({ status: response.statusCode, body }));
  });
  sent.once("error", reject).end();
  return promise;
}

test("GET /status gives the record", async () => {
  const { status, body } = await ask("GET", "/status");
  expect(status).toBe(200);
  expect(JSON.parse(body)).toEqual(recordOf("x", { reason: "because" }));
});

test("POST /stop asks for the stop, with its reason cut to a bound", async () => {
  expect((await ask("POST", "/stop")).status).toBe(202);
  expect((await ask("POST", `/stop?reason=${"r".repeat(2000)}`)).status).toBe(202);
  expect(stops).toEqual([undefined, "r".repeat(1024)]);
});

test.each([
  ["GET", "/stop"],
  ["POST", "/status"],
  ["DELETE", "/"],
  ["GET", "//"],
  ["POST", "http://["],
])("%s %s is refused and the server goes on", async (method, target) => {
  expect((await ask(method, target)).status).toBe(404);
  expect((await ask("GET", "/status")).status).toBe(200);
  expect(stops).toEqual([]);
});

test("bytes that are no HTTP do not end it", async () => {
  const socket = connect(path, () => socket.end("\0\0\0\0\r\n\r\n"));
  socket.resume().on("error", () => undefined);
  await new Promise((resolve) => socket.once("close", resolve));
  expect((await ask("GET", "/status")).status).toBe(200);
});

test("only its owner may connect, and the socket goes with it", async () => {
  expect((await lstat(path)).mode & 0o777).toBe(0o600);
  await server[Symbol.asyncDispose]();
  await expect(lstat(path)).rejects.toThrow("ENOENT");
});
