import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";

import { createLog } from "../../core/log.ts";
import { INGRESS_LIMITS, IngressAcceptor, type IngressLimits } from "../../pf-proxy/ingress-acceptor.ts";
import { encodeIngressPreface, INGRESS_STATUS } from "../../wire/ingress-preface.ts";
import { openLedger } from "../fixtures/pf-proxy/silent-ledger.ts";
import { eventually } from "../enclave/eventually.ts";
import { dial, listen, portOf } from "./relay-chain.ts";

/** An acceptor behind a Unix socket and a service that echoes. */
class Ingress implements AsyncDisposable {
  readonly lines: string[] = [];
  readonly acceptor: IngressAcceptor;
  readonly service: Server;
  readonly #stack: AsyncDisposableStack;
  readonly path: string;

  private constructor(stack: AsyncDisposableStack, service: Server, path: string, limits: IngressLimits) {
    this.#stack = stack;
    this.service = service;
    this.path = path;
    const log = createLog({ write: (line) => this.lines.push(line), now: () => 0, minimum: "debug" });
    this.acceptor = stack.use(
      new IngressAcceptor({ ports: [portOf(service)], log, limits, ledger: openLedger() }),
    );
  }

  static async open(limits: Partial<IngressLimits> = {}, host = "127.0.0.1"): Promise<Ingress> {
    const stack = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), "ingress-"));
    stack.defer(() => rm(directory, { recursive: true }));
    const service = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on("error", () => undefined).pipe(socket);
    });
    await listen(service, { port: 0, host });
    stack.defer(() => close(service));
    const ingress = new Ingress(stack, service, join(directory, "s"), { ...INGRESS_LIMITS, ...limits });
    const listener = createServer({ allowHalfOpen: true }, (socket) => ingress.acceptor.accept(socket));
    await listen(listener, { path: ingress.path });
    stack.defer(() => void listener.close());
    return ingress;
  }

  get port(): number {
    return portOf(this.service);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    if (!server.listening) resolve();
    else server.close(() => resolve());
  });
}

/** All bytes until the end of the connection, however it ends. */
async function everything(socket: Socket): Promise<number[]> {
  const bytes: number[] = [];
  socket.on("data", (chunk: Buffer) => bytes.push(...chunk)).on("error", () => undefined);
  if (!socket.closed) await Promise.race([once(socket, "end"), once(socket, "close")]).catch(() => undefined);
  socket.destroy();
  return bytes;
}

test("connects a published port and relays what follows the preface in the same packet", async () => {
  await using ingress = await Ingress.open();
  const client = await dial(ingress);
  client.end(Buffer.concat([encodeIngressPreface(ingress.port), Buffer.from("abc")]));
  expect(await everything(client)).toEqual([INGRESS_STATUS.connected, 0x61, 0x62, 0x63]);
});

test("takes a preface that comes byte by byte", async () => {
  await using ingress = await Ingress.open();
  const client = await dial(ingress);
  for (const byte of encodeIngressPreface(ingress.port)) {
    client.write(Uint8Array.of(byte));
    await new Promise((resolve) => setImmediate(resolve));
  }
  client.end("z");
  expect(await everything(client)).toEqual([INGRESS_STATUS.connected, 0x7a]);
});

test("reaches a service that listens on the IPv6 loopback only", async () => {
  await using ingress = await Ingress.open({}, "::1");
  const client = await dial(ingress);
  client.end(Buffer.concat([encodeIngressPreface(ingress.port), Buffer.from("6")]));
  expect(await everything(client)).toEqual([INGRESS_STATUS.connected, 0x36]);
});

test("refuses a port that the configuration does not publish, though something listens there", async () => {
  await using ingress = await Ingress.open();
  const other = createServer();
  await listen(other, { port: 0, host: "127.0.0.1" });
  const client = await dial(ingress);
  client.write(encodeIngressPreface(portOf(other)));
  expect(await everything(client)).toEqual([INGRESS_STATUS.notPublished]);
  await close(other);
});

test("says refused while nothing listens on the port", async () => {
  await using ingress = await Ingress.open();
  const { port } = ingress;
  await close(ingress.service);
  const client = await dial(ingress);
  client.write(encodeIngressPreface(port));
  expect(await everything(client)).toEqual([INGRESS_STATUS.refused]);
});

test("closes a connection whose preface is late", async () => {
  await using ingress = await Ingress.open({ prefaceTimeoutMs: 30 });
  const client = await dial(ingress);
  client.write(encodeIngressPreface(ingress.port).subarray(0, 5));
  expect(await everything(client)).toEqual([]);
  await eventually("the reason is logged", () => ingress.lines.some((line) => line.includes("E_DEADLINE")));
});

test("answers busy beyond the limit of connections without a preface, and recovers", async () => {
  await using ingress = await Ingress.open({ waiting: 1 });
  const silent = await dial(ingress);
  await eventually("accepted", () => ingress.acceptor.connections === 1);
  const second = await dial(ingress);
  expect(await everything(second)).toEqual([INGRESS_STATUS.busy]);
  silent.destroy();
  await eventually("released", () => ingress.acceptor.connections === 0);
  const third = await dial(ingress);
  third.end(encodeIngressPreface(ingress.port));
  expect(await everything(third)).toEqual([INGRESS_STATUS.connected]);
});

test("answers busy beyond the limit of connections", async () => {
  await using ingress = await Ingress.open({ connections: 1 });
  const first = await dial(ingress);
  first.write(encodeIngressPreface(ingress.port));
  expect(await once(first, "data")).toEqual([Buffer.of(INGRESS_STATUS.connected)]);
  expect(await everything(await dial(ingress))).toEqual([INGRESS_STATUS.busy]);
  first.destroy();
});

test("any other first bytes are closed without an answer and without a connection to a service", async () => {
  await using ingress = await Ingress.open();
  let reached = 0;
  ingress.service.on("connection", () => (reached += 1));
  const hostile = fc
    .uint8Array({ minLength: 0, maxLength: 32 })
    .filter((bytes) => !(bytes[0] === 0x45 && bytes[1] === 0x49));
  await fc.assert(
    fc.asyncProperty(hostile, async (bytes) => {
      const client = await dial(ingress);
      client.end(bytes);
      expect(await everything(client)).toEqual([]);
    }),
    { numRuns: 100 },
  );
  expect(reached).toBe(0);
  await eventually("nothing left", () => ingress.acceptor.connections === 0);
});

test("dispose resets what is open and answers busy to what comes after", async () => {
  await using ingress = await Ingress.open();
  const client = await dial(ingress);
  client.on("error", () => undefined).write(encodeIngressPreface(ingress.port));
  await once(client, "data");
  await ingress.acceptor[Symbol.asyncDispose]();
  if (!client.readableEnded) await once(client, "end").catch(() => undefined);
  expect(ingress.acceptor.connections).toBe(0);
  expect(await everything(await dial(ingress))).toEqual([INGRESS_STATUS.busy]);
  client.destroy();
});
