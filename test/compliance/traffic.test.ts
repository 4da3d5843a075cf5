/** Published ports: every way to treat a connection, and how machines end that nobody asked. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import type { Socket } from "node:net";
import { buffer, text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { waitFor } from "../e2e/testbed.ts";
import { BACKENDS } from "./backends.ts";
import { type ComplianceEnclave, ending, OPEN_TIMEOUT_MS, prepareEnclave, TEST_TIMEOUT_MS, WAIT_MS } from "./compliance-bed.ts"; // prettier-ignore
import { testHybridSocket } from "./hybrid-socket-tests.ts";
import { testSuddenEnds } from "./sudden-end-tests.ts";

/** Ports of test/fixtures/compliance/traffic. */
const PORT = { echo: 8001, digest: 8002, source: 8003, reset: 8004, witness: 8005, held: 8006, nobody: 8007, release: 8008 }; // prettier-ignore
const MIB = 1024 ** 2;

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

describe.each(BACKENDS)("connections on %s", { timeout: TEST_TIMEOUT_MS }, (backend) => {
  let enclave: ComplianceEnclave;

  beforeAll(async () => {
    enclave = await prepareEnclave(backend, "traffic");
    await enclave.up();
  }, OPEN_TIMEOUT_MS);
  afterAll(() => enclave[Symbol.asyncDispose]());

  const echo = async (bytes: Buffer): Promise<Buffer> => {
    const socket = enclave.dial(PORT.echo);
    socket.end(bytes);
    return await buffer(socket);
  };

  test("10 MiB go in and come back unharmed", async () => {
    const bytes = randomBytes(10 * MIB);
    expect(sha256(await echo(bytes))).toBe(sha256(bytes));
  });

  test("a half that the client ends is the service's end of input, and the other half stays open", async () => {
    const bytes = randomBytes(10 * MIB);
    const socket = enclave.dial(PORT.digest);
    socket.end(bytes);
    expect(await text(socket)).toBe(sha256(bytes));
  });

  test("a half that the service ends arrives after its last byte, while the client's stays open", async () => {
    const socket = enclave.dial(PORT.source);
    socket.write(`${10 * MIB}\n`);
    const bytes = await buffer(socket);
    expect(bytes.length).toBe(10 * MIB);
    expect(bytes.every((byte, index) => byte === (index % (251 * 256)) % 251)).toBe(true);
    socket.destroy();
  });

  test("single bytes arrive one by one, without waiting for more", async () => {
    const socket = enclave.dial(PORT.echo);
    for (let value = 0; value < 50; value += 1) {
      socket.write(Buffer.of(value));
      const [chunk] = (await once(socket, "data")) as [Buffer];
      expect([...chunk]).toEqual([value]);
    }
    socket.destroy();
  });

  test("64 connections at once carry their own bytes", async () => {
    const all = Array.from({ length: 64 }, () => randomBytes(64 * 1024));
    const answers = await Promise.all(all.map((bytes) => echo(bytes)));
    expect(answers.map(sha256)).toEqual(all.map(sha256));
  });

  test("a writer waits for a reader that stands still, and others go on meanwhile", async () => {
    const bytes = randomBytes(64 * MIB);
    const socket = enclave.dial(PORT.held);
    const written = Promise.withResolvers<void>();
    let isWritten = false;
    socket.end(bytes, () => {
      isWritten = true;
      written.resolve();
    });
    expect(await echo(Buffer.alloc(MIB))).toEqual(Buffer.alloc(MIB));
    expect(isWritten).toBe(false);
    await text(enclave.dial(PORT.release).end());
    await written.promise;
    expect(await text(socket)).toBe(sha256(bytes));
  });

  test("a reset by the service is a reset for the client", async () => {
    const socket = enclave.dial(PORT.reset);
    const ended = ending(socket);
    socket.resume().write("now");
    expect(await ended).toBe("ECONNRESET");
  });

  test.each([
    ["cut", "client failed: ECONNRESET", (socket: Socket) => socket.resetAndDestroy()],
    ["clean end", "client ended", (socket: Socket) => socket.end()],
  ])("a %s by the client is told to the service as that", async (_name, told, leave) => {
    const socket = enclave.dial(PORT.witness);
    await once(socket, "data");
    leave(socket);
    const logs = async (): Promise<true | undefined> =>
      (await enclave.bed.succeed("logs", "traffic")).includes(told) || undefined;
    await waitFor(`"${told}" in the log`, logs, WAIT_MS);
    socket.destroy();
  });

  test("a service that is killed ends its connections, and its next run takes new ones", async () => {
    const socket = enclave.dial(PORT.echo);
    socket.write("x");
    await once(socket, "data");
    const ended = ending(socket);
    const { pid } = await enclave.service("traffic");
    await enclave.sh(`kill -9 ${pid}`);
    expect(["ECONNRESET", "end"]).toContain(await ended);
    socket.destroy();
    await enclave.untilService("traffic", ({ restarts, health }) => restarts === 1 && health === "healthy");
    expect(String(await echo(Buffer.from("next")))).toBe("next");
  });

  test("200 connections leave no descriptor open, neither in the gateway nor in the runner", async () => {
    const [{ gateway }, { runner }] = [await enclave.inside(), await enclave.status()];
    const inGateway = async () => Number(await enclave.sh(`ls /proc/${gateway.pid}/fd | wc -l`));
    const inRunner = async () => (await readdir(`/proc/${runner.pid}/fd`)).length;
    const before = { gateway: await inGateway(), runner: await inRunner() };
    for (let round = 0; round < 4; round += 1)
      await Promise.all(Array.from({ length: 50 }, () => echo(Buffer.from("one of many"))));
    await waitFor(
      `the descriptors of before: ${JSON.stringify(before)}`,
      async () => ((await inGateway()) <= before.gateway && (await inRunner()) <= before.runner) || undefined,
      WAIT_MS,
    );
  });

  test("a published port on which nobody listens ends the connection without a byte", async () => {
    const socket = enclave.dial(PORT.nobody);
    const ended = ending(socket);
    let received = 0;
    socket.on("data", (chunk: Buffer) => (received += chunk.length));
    expect(["ECONNRESET", "end"]).toContain(await ended);
    expect(received).toBe(0);
  });

  describe("by the host's own socket", () => testHybridSocket(() => enclave));
  describe("until a sudden end", () => testSuddenEnds(backend, () => enclave));
});
