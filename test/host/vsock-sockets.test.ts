import { lstat, mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { VsockSockets } from "../../host/backends/local/vsock-sockets.ts";

let directory: string;
let sockets: VsockSockets;
const ended = new AbortController();

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "vs-"));
  sockets = await VsockSockets.open({ directory, rootUid: process.getuid?.() ?? 0, signal: ended.signal });
});
afterEach(async () => {
  await sockets[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

/** Sends bytes to vsock.sock and resolves with all that comes back until the close. */
function talk(...chunks: (string | Buffer)[]): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let text = "";
  const socket = connect(join(directory, "vsock.sock"), () => {
    for (const chunk of chunks) socket.write(chunk);
  });
  socket.on("data", (chunk) => (text += chunk.toString("latin1")));
  socket.on("error", () => undefined);
  socket.once("close", () => resolve(text));
  return promise;
}

/** A listener of the enclave that answers the first bytes with themselves and ends. */
async function listenInside(port: number): Promise<AsyncDisposable> {
  const server = createServer((socket) => socket.once("data", (bytes) => socket.end(bytes)));
  await new Promise<void>((resolve) => server.listen(join(directory, "guest", String(port)), resolve));
  return server;
}

describe("vsock.sock, the door for tools of the host", () => {
  test("CONNECT to a port that listens answers OK and relays, also bytes sent behind the line", async () => {
    await using _inside = await listenInside(9001);
    expect(await talk("CONNECT 9001\nhello")).toBe("OK 9001\nhello");
  });

  test("a port that nobody listens on is closed without OK", async () => {
    expect(await talk("CONNECT 1234\n")).toBe("");
  });

  test.each([
    ["another word", "HELLO 9001\n"],
    ["a port that leads elsewhere", "CONNECT ../host\n"],
    ["a port out of range", "CONNECT 99999999999\n"],
    ["a line without end", "CONNECT 9001".padEnd(4096, "0")],
    ["zeros", Buffer.alloc(64)],
  ])("%s is closed without OK", async (_title, bytes) => {
    await using _inside = await listenInside(9001);
    expect(await talk(bytes)).toBe("");
  });

  test("many that connect and say nothing do not keep others out", async () => {
    await using _inside = await listenInside(9001);
    const silent = Array.from({ length: 200 }, () => connect(join(directory, "vsock.sock")));
    expect(await talk("CONNECT 9001\nstill here")).toBe("OK 9001\nstill here");
    for (const socket of silent) socket.destroy();
  });
});

test("sockets can be opened by their owner only, and go with the machine", async () => {
  await sockets.onConnect(9000, (socket) => socket.destroy());
  for (const name of ["vsock.sock", "vsock.sock_9000"]) {
    expect((await lstat(join(directory, name))).mode & 0o777, name).toBe(0o600);
  }
  expect((await lstat(join(directory, "guest"))).mode & 0o777).toBe(0o700);
  await sockets[Symbol.asyncDispose]();
  await expect(lstat(directory)).rejects.toThrow("ENOENT");
});

test("a connection of the enclave reaches the handler of its port", async () => {
  const arrived = Promise.withResolvers<Socket>();
  await sockets.onConnect(9003, arrived.resolve);
  const inside = connect(join(directory, "vsock.sock_9003"), () => inside.end("ready\n"));
  const socket = await arrived.promise;
  socket.resume();
  const bytes = await new Promise<string>((resolve) =>
    socket.once("data", (chunk) => resolve(chunk.toString())),
  );
  expect(bytes).toBe("ready\n");
  socket.destroy();
});

test("a state directory with too long a path is refused with what to do", async () => {
  const long = join(directory, "x".repeat(100));
  const opening = VsockSockets.open({ directory: long, rootUid: 0, signal: ended.signal });
  await expect(opening).rejects.toMatchObject({
    code: "E_HOST_STATE_PATH",
    hint: expect.stringContaining("--state-dir"),
  });
});
