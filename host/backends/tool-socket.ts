/**
 * The host's side of hybrid vsock (wire/hybrid-vsock.ts) in the state directory: tools of this host ask for ports of the
 * enclave, the same way on every backend.
 */
import { chmod, mkdir, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";

import { withDeadline } from "../../core/deadline.ts";
import { KitError } from "../../core/errors.ts";
import { relay } from "../../pf-proxy/relay.ts";
import { decodeConnect, encodeOk, HOST_SOCKET, MAX_HANDSHAKE_BYTES } from "../../wire/hybrid-vsock.ts";
import { readLine } from "../line-reader.ts";

const HANDSHAKE_TIMEOUT_MS = 5_000;
const MAX_CONNECTIONS = 1024;
/** sun_path, less its NUL. */
const MAX_SOCKET_PATH_BYTES = 107;

export interface ToolHandshakeOptions {
  /** Connects to a port of the enclave. */
  readonly dial: (port: number, signal: AbortSignal) => Promise<Duplex>;
  readonly signal: AbortSignal;
}

/** The folder of an enclave's sockets, its owner's alone; it goes with everything in it. */
export async function openVsockFolder(directory: string): Promise<AsyncDisposable> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  return { [Symbol.asyncDispose]: async () => await rm(directory, { recursive: true, force: true }) };
}

/** @param directory exists. @throws E_HOST_STATE_PATH */
export async function openToolSocket(
  directory: string,
  options: ToolHandshakeOptions,
): Promise<AsyncDisposable> {
  const path = join(directory, HOST_SOCKET);
  checkSocketPath(path);
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (tool) => {
    void serveTool(tool, options);
  });
  server.maxConnections = MAX_CONNECTIONS;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject).listen(path, resolve);
  await promise;
  await chmod(path, 0o600);
  // Not waited for: it is closed when the last connection is, and those end with the signal.
  return { [Symbol.asyncDispose]: async () => void server.close() };
}

/** @throws E_HOST_STATE_PATH */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_SOCKET_PATH_BYTES) return;
  const message = `the socket ${path} would have ${bytes} bytes; a socket's path has at most ${MAX_SOCKET_PATH_BYTES}`;
  throw new KitError("E_HOST_STATE_PATH", message);
}

/** CONNECT from a tool of the host: connects it to the enclave, or closes. Never rejects. */
export async function serveTool(tool: Socket, { dial, signal }: ToolHandshakeOptions): Promise<void> {
  const deadline = withDeadline(signal, HANDSHAKE_TIMEOUT_MS);
  tool.on("error", () => tool.destroy()); // between two readers nobody else would hear of it
  try {
    const { line, rest } = await readLine(tool, MAX_HANDSHAKE_BYTES, deadline);
    const port = decodeConnect(line);
    const guest = await dial(port, deadline);
    tool.write(encodeOk(port));
    if (rest.length > 0) guest.write(rest);
    await relay(tool, guest, { signal });
  } catch {
    tool.destroy(); // the peer broke the handshake or the port is closed: both are told by the close
  }
}
