/** The relay between client and process, with every socket in the hands of the test. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";
import { afterEach, beforeEach, expect, test } from "vitest";

import { ExecFrameDecoder } from "../../control/exec-frames.ts";
import { relayExec } from "../../enclave/api/exec-relay.ts";
import { dial, listen } from "../pf-proxy/relay-chain.ts";
import { eventually } from "./eventually.ts";

let stack: AsyncDisposableStack;
let directory: string;
let pairs = 0;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  directory = await mkdtemp(join(tmpdir(), "relay-"));
  stack.defer(() => rm(directory, { recursive: true }));
});
afterEach(() => stack.disposeAsync());

/** The relay's end and the other one. */
async function openPair(): Promise<readonly [Socket, Socket]> {
  const path = join(directory, String((pairs += 1)));
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer({ allowHalfOpen: true }, accepted.resolve);
  await listen(server, { path });
  const far = await dial({ path });
  const near = await accepted.promise;
  server.close();
  for (const socket of [near, far]) {
    socket.on("error", () => undefined);
    stack.defer(() => void socket.destroy());
  }
  return [near, far];
}

interface Bed {
  /** The client, and the relay's end of it. */
  readonly client: Socket;
  readonly served: Socket;
  readonly stdin: Socket;
  readonly stdout: Socket;
  readonly stderr: Socket;
  readonly relayed: Promise<void>;
  readonly end: () => void;
}

async function open({ tty = false } = {}): Promise<Bed> {
  const [served, client] = await openPair();
  const [nearIn, stdin] = await openPair();
  const [nearOut, stdout] = await openPair();
  const [nearErr, stderr] = await openPair();
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  served.once("close", resolve);
  const streams = tty ? { stdin: nearIn } : { stdin: nearIn, stdout: nearOut, stderr: nearErr };
  const relayed = relayExec(served, streams, ended);
  relayed.catch(() => undefined);
  return { client, served, stdin, stdout, stderr, relayed, end: resolve };
}

function decode(bytes: Uint8Array): { stdout: string; stderr: string } {
  const output = { stdout: "", stderr: "" };
  for (const piece of new ExecFrameDecoder().push(bytes)) {
    output[piece.stream] += Buffer.from(piece.bytes).toString("latin1");
  }
  return output;
}

test("frames tell output and errors apart, and the end of the input is the end of the input", async () => {
  const bed = await open();
  bed.client.end("typed");
  expect(await text(bed.stdin)).toBe("typed");
  bed.stdout.end("out");
  bed.stderr.end("err");
  bed.end();
  expect(decode(await buffer(bed.client))).toEqual({ stdout: "out", stderr: "err" });
  await bed.relayed;
});

test("large pieces are cut into frames of the size that there may be", async () => {
  const bed = await open();
  const all = buffer(bed.client);
  bed.stdout.end(Buffer.alloc(1_000_000, "x"));
  bed.stderr.end();
  bed.client.end();
  bed.end();
  expect(decode(await all).stdout).toBe("x".repeat(1_000_000));
});

test("a client that reads late gets the last byte, also where it has ended its own side", async () => {
  const bed = await open();
  bed.client.pause().end();
  await eventually("the end of its input", () => bed.served.readableEnded);
  let sent = 0;
  while (bed.served.writableLength === 0) {
    sent += 1_000;
    bed.stdout.write("x".repeat(1_000));
    await new Promise((resolve) => setImmediate(resolve));
  }
  bed.stdout.end();
  bed.stderr.end();
  bed.end();
  await eventually("that the output was taken", () => bed.served.writableEnded);
  expect(bed.served.destroyed).toBe(false);
  expect(decode(await buffer(bed.client)).stdout).toHaveLength(sent);
});

test("the process's streams are closed as soon as the client is gone, whatever it had sent before", async () => {
  for (const before of ["", "typed"]) {
    const bed = await open();
    if (before !== "") bed.client.write(before);
    const ends = [bed.stdout, bed.stderr].map(async (stream) => await buffer(stream));
    bed.client.destroy();
    await Promise.all(ends);
    await bed.relayed.catch(() => undefined);
    expect(bed.served.destroyed).toBe(true);
  }
});

test("a client that was gone before the relay began ends it at once", async () => {
  const [served, client] = await openPair();
  const [nearIn, stdin] = await openPair();
  client.destroy();
  served.destroy();
  await once(served, "close");
  await relayExec(served, { stdin: nearIn }, Promise.resolve()).catch(() => undefined);
  await buffer(stdin);
  expect(nearIn.destroyed).toBe(true);
});

test("output that nobody reads is held back at the process", async () => {
  const bed = await open();
  bed.client.pause();
  for (let index = 0; index < 64; index += 1) bed.stdout.write(Buffer.alloc(64 * 1024));
  await eventually("a full connection", () => bed.served.writableNeedDrain);
  expect(bed.served.writableLength).toBeLessThan(256 * 1024);
  expect(bed.stdout.writableLength).toBeGreaterThan(2 * 1024 * 1024);
});

test("a terminal that is reset because it left input unread has ended like any other", async () => {
  const bed = await open({ tty: true });
  bed.client.write(Buffer.alloc(300_000));
  // What it has taken from the kernel is less than what was sent, so some is left there.
  await eventually(
    "more input than it takes",
    () => bed.stdin.readableLength >= bed.stdin.readableHighWaterMark,
  );
  const all = text(bed.client);
  bed.stdin.write("last words", () => bed.stdin.destroy());
  bed.end();
  expect(await all).toBe("last words");
  await bed.relayed;
});
