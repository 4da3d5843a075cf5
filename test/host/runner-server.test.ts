import { lstat, mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { createLog } from "../../core/log.ts";
import type { PortSpec } from "../../host/config/enclave-spec.ts";
import { NetworkSide } from "../../host/runner/network-side.ts";
import { openRunnerServer } from "../../host/runner/runner-server.ts";
import { NO_EGRESS } from "../../wire/egress-policy.ts";
import { recordOf } from "./record-of.ts";

let directory: string;
let path: string;
let server: AsyncDisposable;
let network: NetworkSide;
let ended: AbortController;
let stops: (string | undefined)[];
let told: readonly PortSpec[];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rs-"));
  path = join(directory, "runner.sock");
  stops = [];
  ended = new AbortController();
  network = await NetworkSide.open({
    attestationPort: null,
    dialAttestation: async () => await Promise.reject(new Error("nowhere")),
    ports: [{ hostAddress: "127.0.0.1", hostPort: 0, servicePort: 8080 }],
    egress: NO_EGRESS,
    log: createLog({ write: () => undefined, now: () => 0 }),
    dialIngress: () => Promise.reject(new Error("no enclave")),
    onPorts: (ports) => (told = ports),
    signal: ended.signal,
  });
  server = await openRunnerServer({
    path,
    record: () => recordOf("x", { reason: "because" }),
    stop: (reason) => stops.push(reason),
    network,
  });
});
afterEach(async () => {
  ended.abort();
  await server[Symbol.asyncDispose]();
  await network[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

function ask(
  method: string,
  target: string,
  sentBody?: string,
): Promise<{ status: number | undefined; body: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number | undefined; body: string }>();
  const sent = request({ socketPath: path, method, path: target, agent: false }, (response) => {
    let body = "";
    response.setEncoding("utf8").on("data", (chunk: string) => (body += chunk));
    response.once("end", () => resolve({ status: response.statusCode, body }));
  });
  sent.once("error", reject).end(sentBody);
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

describe("ports", () => {
  const mapping = (port: PortSpec | undefined): string =>
    encodeURIComponent(`127.0.0.1:${port?.hostPort ?? 0}:${port?.servicePort ?? 0}`);

  test("are added while the enclave runs, and removed", async () => {
    const added = await ask("POST", `/ports?mapping=${encodeURIComponent("127.0.0.1:0:8080")}`);
    expect(added.status).toBe(200);
    expect(told).toHaveLength(2);
    const listeners = (): unknown =>
      JSON.parse(JSON.stringify(network.report().listeners.map(({ port }) => port)));
    expect(listeners()).toEqual(told.map(({ hostPort }) => hostPort));
    expect((await ask("DELETE", `/ports?mapping=${mapping(told[1])}`)).status).toBe(200);
    expect(told).toHaveLength(1);
  });

  test("that the image does not publish, that nobody has, that are taken or no mapping are refused", async () => {
    const codeOf = async (method: string, text: string): Promise<unknown> => {
      const { status, body } = await ask(method, `/ports?mapping=${text}`);
      return [status, (JSON.parse(body) as { readonly code?: string }).code];
    };
    expect(await codeOf("POST", "127.0.0.1:0:9999")).toEqual([409, "E_PORT_NOT_PUBLISHED"]);
    expect(await codeOf("DELETE", "127.0.0.1:1:8080")).toEqual([409, "E_PORT_UNKNOWN"]);
    expect(await codeOf("POST", mapping(told[0]))).toEqual([409, "E_HOST_PORT_IN_USE"]);
    expect(await codeOf("POST", "nothing")).toEqual([409, "E_CONFIG_PORT"]);
  });
});

test("an enclave that stops takes no new connections, and no further port", async () => {
  network.drain();
  const refused = connect(told[0]?.hostPort ?? 0, "127.0.0.1");
  const code = await new Promise((resolve) =>
    refused.once("error", (error: NodeJS.ErrnoException) => resolve(error.code)).once("connect", resolve),
  );
  expect(code).toBe("ECONNREFUSED");
  expect((await ask("POST", `/ports?mapping=${encodeURIComponent("127.0.0.1:0:8080")}`)).body).toContain(
    "E_PORT_LIMIT",
  );
});

describe("egress rules", () => {
  const rules = {
    rules: [{ action: "allow", host: "example.com", ports: [{ from: 443, to: 443 }] }],
    proxies: {},
  };

  test("are taken, answer with those before, and go back to the image's own", async () => {
    expect(JSON.parse((await ask("PUT", "/egress", JSON.stringify(rules))).body)).toEqual(NO_EGRESS);
    expect(network.report().rules).toMatchObject([{ rule: "{ host: example.com, port: 443 }" }]);
    expect(JSON.parse((await ask("PUT", "/egress")).body)).toEqual(rules);
    expect(network.report().rules).toEqual([]);
  });

  test("that are none are refused and change nothing", async () => {
    for (const body of ["{}", "[", '{"rules":[{"action":"allow","host":"*","ports":[]}],"proxies":{}}'])
      expect((await ask("PUT", "/egress", body)).status).toBe(409);
    expect(network.report().rules).toEqual([]);
  });
});
