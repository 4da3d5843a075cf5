/** First flights of TLS clients that others wrote. */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { connect, type ConnectionOptions } from "node:tls";
import { promisify } from "node:util";

/** What a client sends before it is answered; `start` makes it connect to a port of 127.0.0.1. */
async function capture(start: (port: number) => Promise<unknown> | (() => void)): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const server = createServer((socket) => {
    socket
      .on("error", () => undefined)
      .once("data", (chunk: Buffer) => {
        resolve(chunk);
        socket.destroy();
      });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const started = start(address.port);
  if (typeof started !== "function") started.catch(() => undefined);
  try {
    setTimeout(() => reject(new Error("no ClientHello came")), 20_000).unref();
    return await promise;
  } finally {
    if (typeof started === "function") started();
    server.close();
  }
}

export function captureNode(options: ConnectionOptions): Promise<Buffer> {
  return capture((port) => {
    const socket = connect({ ...options, host: "127.0.0.1", port });
    socket.on("error", () => undefined);
    return () => void socket.destroy();
  });
}

export function captureOpenssl(args: readonly string[]): Promise<Buffer> {
  return capture((port) =>
    promisify(execFile)("openssl", ["s_client", "-connect", `127.0.0.1:${port}`, ...args]),
  );
}

export async function hasOpenssl(): Promise<boolean> {
  try {
    await promisify(execFile)("openssl", ["version"]);
    return true;
  } catch {
    return false;
  }
}
