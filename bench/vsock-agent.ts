/** In the guest: AF_VSOCK under load, and programs beside it. One JSON line a connection on port 5000. */
import { execFile } from "node:child_process";
import type { Socket } from "node:net";
import { promisify } from "node:util";

import { loadAddon } from "../native/addon.ts";
import { connectVsock, listenVsock } from "../native/vsock-sockets.ts";

const addon = loadAddon("/opt/enclave/vsock.node");
const PARENT = 3;
const COMMAND_PORT = 5000;
const SINK_PORT = 5001;

type Command =
  | {
      readonly do: "blast";
      readonly port: number;
      readonly streams: number;
      readonly chunkBytes: number;
      readonly ms: number;
    }
  | { readonly do: "rate"; readonly port: number; readonly ms: number; readonly parallel: number }
  | { readonly do: "run"; readonly words: readonly [string, ...string[]] };

async function dial(port: number): Promise<Socket> {
  const signal = AbortSignal.timeout(20_000);
  const socket = await connectVsock({ cid: PARENT, port }, { addon, signal });
  return socket.on("error", () => undefined);
}

/** Writes until the time is over, no faster than they are taken. */
async function blast(port: number, chunkBytes: number, ms: number): Promise<void> {
  const socket = await dial(port);
  const chunk = Buffer.alloc(chunkBytes, 1);
  const end = performance.now() + ms;
  while (performance.now() < end)
    if (!socket.write(chunk)) await new Promise((resolve) => socket.once("drain", resolve));
  await new Promise<void>((resolve) => socket.end(resolve));
  // The host answers once it has everything.
  socket.resume();
  await new Promise((resolve) => socket.once("close", resolve));
}

async function countConnections(port: number, ms: number, parallel: number): Promise<number> {
  const end = performance.now() + ms;
  let done = 0;
  const worker = async (): Promise<void> => {
    while (performance.now() < end) {
      const socket = await dial(port);
      const answered = new Promise((resolve) => socket.once("data", resolve));
      socket.write("x");
      await answered;
      socket.destroy();
      done += 1;
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  return done;
}

async function perform(command: Command): Promise<unknown> {
  switch (command.do) {
    case "blast": {
      const { port, chunkBytes, ms } = command;
      const streams = Array.from({ length: command.streams }, async () => await blast(port, chunkBytes, ms));
      await Promise.all(streams);
      return {};
    }
    case "rate":
      return { connections: await countConnections(command.port, command.ms, command.parallel) };
    case "run": {
      const [program, ...words] = command.words;
      const { stdout } = await promisify(execFile)(program, words, { maxBuffer: 16 << 20 });
      return { stdout };
    }
  }
}

async function serve(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let text = "";
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString();
    if (text.includes("\n")) resolve(text);
  });
  const command: Command = JSON.parse(await promise);
  const answer = await perform(command).catch((error: unknown) => ({ error: String(error) }));
  socket.end(JSON.stringify(answer));
}

listenVsock(SINK_PORT, {
  addon,
  onConnection: (socket) => {
    let bytes = 0;
    socket.on("error", () => undefined).on("data", (chunk: Buffer) => (bytes += chunk.length));
    socket.once("end", () => socket.end(String(bytes)));
  },
});
listenVsock(COMMAND_PORT, {
  addon,
  onConnection: (socket) => void serve(socket.on("error", () => undefined)),
});
process.stderr.write("agent: ready\n");
