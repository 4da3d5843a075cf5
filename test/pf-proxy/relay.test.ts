import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import type { Socket } from "node:net";
import { PassThrough } from "node:stream";
import { expect, test } from "vitest";

import { relay } from "../../pf-proxy/relay.ts";
import { eventually } from "../enclave/eventually.ts";
import { dial, RelayChain } from "./relay-chain.ts";

const MIB = 1024 * 1024;
const BIG = 64 * MIB;

function digest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Everything up to the end of input; unlike node:stream/consumers it leaves the other direction open. */
async function collect(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  await once(socket, "end");
  return Buffer.concat(chunks);
}

async function text(socket: Socket): Promise<string> {
  return (await collect(socket)).toString();
}

async function errorOf(socket: Socket): Promise<string> {
  const [error] = (await once(socket, "error")) as [NodeJS.ErrnoException];
  return error.code ?? error.message;
}

test("carries bytes both ways and ends when both sides ended", async () => {
  await using chain = await RelayChain.open((socket) => socket.pipe(socket));
  const client = await dial(chain);
  client.end("hello");
  expect(await text(client)).toBe("hello");
  expect(await chain.outcomes()).toEqual({ host: "ended", enclave: "ended" });
  const counts = chain.results.map(({ result }) => [result.bytesFromA, result.bytesFromB]);
  expect(counts).toEqual([
    [5, 5],
    [5, 5],
  ]);
});

test("carries 64 MiB both ways at once without a changed byte", async () => {
  const down = randomBytes(BIG);
  const up = randomBytes(BIG);
  const received = Promise.withResolvers<string>();
  await using chain = await RelayChain.open((socket) => {
    socket.end(down);
    collect(socket).then((bytes) => received.resolve(digest(bytes)), received.reject);
  });
  const client = await dial(chain);
  client.end(up);
  expect(digest(await collect(client))).toBe(digest(down));
  expect(await received.promise).toBe(digest(up));
  expect(await chain.outcomes()).toEqual({ host: "ended", enclave: "ended" });
});

test("lets a service answer after the client's end of input", async () => {
  await using chain = await RelayChain.open((socket) => {
    void text(socket).then((request) => socket.end(`answer to ${request}`));
  });
  const client = await dial(chain);
  client.end("question");
  expect(await text(client)).toBe("answer to question");
});

test("lets a client go on after the service's end of input", async () => {
  const received = Promise.withResolvers<string>();
  await using chain = await RelayChain.open((socket) => {
    socket.end("bye");
    text(socket).then(received.resolve, received.reject);
  });
  const client = await dial(chain);
  expect(await text(client)).toBe("bye");
  client.end("still here");
  expect(await received.promise).toBe("still here");
  expect(await chain.outcomes()).toEqual({ host: "ended", enclave: "ended" });
});

test("shows a client's reset to the service as ECONNRESET", async () => {
  const seen = Promise.withResolvers<string>();
  await using chain = await RelayChain.open((socket) => {
    socket.resume();
    void errorOf(socket).then(seen.resolve);
  });
  const client = await dial(chain);
  client.write("half of an upl");
  await eventually(
    "bytes through",
    () => chain.relaySockets.length === 4 && chain.relaySockets[2]?.bytesRead === 14,
  );
  client.resetAndDestroy();
  expect(await seen.promise).toBe("ECONNRESET");
  expect(await chain.outcomes()).toEqual({ host: "reset", enclave: "reset" });
});

test("shows a service's reset to the client as ECONNRESET", async () => {
  await using chain = await RelayChain.open((socket) => {
    socket.once("data", () => socket.resetAndDestroy());
  });
  const client = await dial(chain);
  client.resume();
  client.write("x");
  expect(await errorOf(client)).toBe("ECONNRESET");
  expect(await chain.outcomes()).toEqual({ host: "reset", enclave: "reset" });
});

test("shows a reset while the other direction is blocked", async () => {
  const seen = Promise.withResolvers<string>();
  await using chain = await RelayChain.open((socket) => {
    socket.write(Buffer.alloc(32 * MIB));
    socket.resume();
    void errorOf(socket).then(seen.resolve);
  });
  const client = await dial(chain);
  client.pause();
  await eventually("blocked", () => chain.relaySockets.some((socket) => socket.writableNeedDrain));
  client.resetAndDestroy();
  expect(["ECONNRESET", "EPIPE"]).toContain(await seen.promise);
});

test("keeps what a slow reader has not taken within the high-water marks", async () => {
  await using chain = await RelayChain.open((socket) => {
    socket.on("error", () => undefined);
    socket.end(Buffer.alloc(BIG));
  });
  const client = await dial(chain);
  let largest = 0;
  for await (const chunk of client) {
    largest = Math.max(
      largest,
      ...chain.relaySockets.map((socket) => socket.writableLength + socket.readableLength),
    );
    if (client.bytesRead < 8 * MIB) await new Promise((resolve) => setImmediate(resolve));
    expect((chunk as Buffer).length).toBeGreaterThan(0);
  }
  expect(client.bytesRead).toBe(BIG);
  expect(largest).toBeGreaterThan(0);
  expect(largest).toBeLessThan(MIB);
});

test("a peer that never reads holds no more than the buffers, and an abort frees it", async () => {
  await using chain = await RelayChain.open((socket) => {
    socket.on("error", () => undefined);
    socket.end(Buffer.alloc(BIG));
  });
  const client = await dial(chain);
  client.on("error", () => undefined);
  client.pause();
  await eventually(
    "blocked at both relays",
    () => chain.relaySockets.filter((each) => each.writableNeedDrain).length === 2,
  );
  const held = chain.relaySockets.map((socket) => socket.writableLength + socket.readableLength);
  expect(Math.max(...held)).toBeLessThan(MIB);
  chain.stop.abort();
  expect(await chain.outcomes()).toEqual({ host: "aborted", enclave: "aborted" });
  expect(chain.relaySockets.every((socket) => socket.destroyed)).toBe(true);
});

test("says so if a side is gone before the relay begins", async () => {
  const gone = new PassThrough();
  gone.destroy();
  const result = await relay(gone, new PassThrough(), { signal: new AbortController().signal });
  expect(result).toMatchObject({ outcome: "reset", bytesFromA: 0, bytesFromB: 0 });
});

test("does not begin with an aborted signal", async () => {
  const streams = [new PassThrough(), new PassThrough()] as const;
  expect((await relay(...streams, { signal: AbortSignal.abort() })).outcome).toBe("aborted");
  expect(streams.every((stream) => stream.destroyed)).toBe(true);
});
