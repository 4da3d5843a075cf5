import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { SupervisorClient } from "../../enclave/api/supervisor-client.ts";
import type { LateResult } from "../../enclave/supervisor-calls.ts";
import { serveGateway } from "../../enclave/supervisor-server.ts";
import { encodeFrame, MAX_REQUESTS, type SupervisorCall } from "../../wire/supervisor-frames.ts";
import { dial, listen } from "../pf-proxy/relay-chain.ts";
import { eventually } from "./eventually.ts";
import { isKitError } from "./kit-error.ts";

type CarryOut = (call: SupervisorCall, signal: AbortSignal) => Promise<LateResult>;

/** A served socket pair; `client` is the gateway's raw end. */
interface Pair extends AsyncDisposable {
  readonly client: Socket;
  readonly served: Socket;
  readonly violations: readonly KitError[];
}

async function openPair(carryOut: CarryOut): Promise<Pair> {
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "frames-"));
  stack.defer(() => rm(directory, { recursive: true }));
  const path = join(directory, "s");
  const violations: KitError[] = [];
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer((socket) => {
    serveGateway(socket, { carryOut, onViolation: (error) => violations.push(error) });
    accepted.resolve(socket);
  });
  await listen(server, { path });
  stack.defer(() => void server.close());
  const client = await dial({ path });
  client.on("error", () => undefined);
  stack.defer(() => void client.destroy());
  const served = await accepted.promise;
  const owned = stack.move();
  return { client, served, violations, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Waits until it is cancelled, as a read without news does. */
const waiting: CarryOut = async (_, signal) => {
  if (!signal.aborted) await once(signal, "abort");
  return () => "cancelled";
};

const READ = { method: "events.read", params: { after: 0, waitMs: 30_000 } } as const;

test("answers results and refusals", async () => {
  await using pair = await openPair((call) => {
    if (call.method === "status") return Promise.resolve(() => ({ fine: true }));
    return Promise.reject(new KitError("E_ENCLAVE_STOPPING", "too late"));
  });
  const client = new SupervisorClient(pair.client);
  expect(await client.call({ method: "status" })).toEqual({ fine: true });
  await expect(client.call({ method: "poweroff" })).rejects.toEqual(
    isKitError("E_ENCLAVE_STOPPING", /too late/),
  );
});

test("a fault while computing a result is answered and ends nothing", async () => {
  await using pair = await openPair((call) =>
    Promise.resolve(() => {
      if (call.method === "hello") throw new Error("broken");
      return call.method === "listening" ? "x".repeat(2 * 1024 * 1024) : "fine";
    }),
  );
  const client = new SupervisorClient(pair.client);
  await expect(client.call({ method: "hello" })).rejects.toEqual(isKitError("E_INTERNAL", /broken/));
  await expect(client.call({ method: "listening" })).rejects.toEqual(isKitError("E_ENCLAVE_FRAME"));
  expect(await client.call({ method: "status" })).toBe("fine");
});

test("an aborted wait is cancelled at the supervisor", async () => {
  await using pair = await openPair(waiting);
  const client = new SupervisorClient(pair.client);
  const stop = new AbortController();
  const wait = client.call(READ, stop.signal);
  stop.abort();
  expect(await wait).toBe("cancelled");
});

test("the gateway keeps to so many requests at a time, and all waits end with the supervisor", async () => {
  await using pair = await openPair(waiting);
  const client = new SupervisorClient(pair.client);
  const waits = Array.from({ length: MAX_REQUESTS }, () => client.call(READ));
  const settled = Promise.allSettled(waits);
  await expect(client.call({ method: "status" })).rejects.toEqual(isKitError("E_CONTROL_BUSY"));
  pair.served.destroy();
  for (const result of await settled) {
    expect(result).toEqual({ status: "rejected", reason: isKitError("E_CONTROL_GONE") });
  }
  await client.closed;
  await expect(client.call({ method: "status" })).rejects.toEqual(isKitError("E_CONTROL_GONE"));
});

test("more requests than an honest gateway makes are a violation", async () => {
  await using pair = await openPair(waiting);
  for (let id = 1; id <= 2 * MAX_REQUESTS + 1; id += 1) pair.client.write(encodeFrame({ id, ...READ }));
  await eventually("a violation", () => pair.violations.length > 0);
  expect(pair.violations).toEqual([isKitError("E_ENCLAVE_FRAME", /256 requests/)]);
  expect(pair.served.destroyed).toBe(true);
});

test("the same id twice is a violation", async () => {
  await using pair = await openPair(waiting);
  for (const id of [1, 1]) pair.client.write(encodeFrame({ id, ...READ }));
  await eventually("a violation", () => pair.violations.length > 0);
  expect(pair.violations).toEqual([isKitError("E_ENCLAVE_FRAME", /in progress already/)]);
});

test("malformed bytes are one violation and end the connection; nothing is carried out", async () => {
  let carriedOut = 0;
  const count: CarryOut = () => {
    carriedOut += 1;
    return Promise.resolve(() => null);
  };
  const garbage = fc.oneof(
    fc.uint8Array({ minLength: 5, maxLength: 64 }).filter((bytes) => (bytes[0] ?? 0) > 0),
    fc.jsonValue().map(encodeFrame),
  );
  await fc.assert(
    fc.asyncProperty(garbage, async (bytes) => {
      await using pair = await openPair(count);
      pair.client.write(bytes);
      await eventually("the end", () => pair.served.destroyed);
      expect(pair.violations).toHaveLength(1);
    }),
    { numRuns: 60 },
  );
  expect(carriedOut).toBe(0);
});

test("a gateway that does not read its answers makes no more of them", async () => {
  let computed = 0;
  await using pair = await openPair(() =>
    Promise.resolve(() => {
      computed += 1;
      return "x".repeat(500_000);
    }),
  );
  pair.client.pause();
  for (let id = 1; id <= MAX_REQUESTS; id += 1)
    pair.client.write(encodeFrame({ id, method: "status", params: {} }));
  await eventually("the first answers", () => computed > 0 && pair.served.writableNeedDrain);
  for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  expect(pair.served.writableLength).toBeLessThan(1_100_000);
  expect(computed).toBeLessThan(8);
  pair.client.resume();
  await eventually("all answers", () => computed === MAX_REQUESTS);
});
