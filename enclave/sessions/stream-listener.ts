/**
 * Where the gateway connects the streams of sessions (wire/session-frames.ts). The socket belongs to the gateway's uid and
 * is open to nobody else, which is the check of the peer that Node can make; the token tells which session it is, and
 * works once for each descriptor.
 */
import { timingSafeEqual } from "node:crypto";
import { chmod, chown, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";

import { STREAM_ACCEPTED, STREAM_HELLO_BYTES } from "../../wire/session-frames.ts";

export interface StreamListenerOptions {
  readonly path: string;
  /** Owner of the socket; absent: the supervisor's own, where only one uid exists. */
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
  /** Takes the connection, or refuses it by returning false. */
  readonly onStream: (token: string, descriptor: number, socket: Socket) => boolean;
}

/** A gateway that connects says at once what for. */
const HELLO_TIMEOUT_MS = 2_000;
const MAX_PENDING = 128;

export async function openStreamListener(options: StreamListenerOptions): Promise<AsyncDisposable> {
  const { path, owner } = options;
  const server = createServer({ allowHalfOpen: true }, (socket) => readHello(socket, options));
  server.maxConnections = MAX_PENDING;
  await rm(path, { force: true });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject).listen(path, resolve);
  await promise;
  await chmod(path, 0o600);
  if (owner !== undefined) await chown(path, owner.uid, owner.gid);
  return { [Symbol.asyncDispose]: async () => await close(server) };
}

async function close(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<unknown>();
  server.close(resolve);
  await promise;
}

/** After its hello the gateway is silent until the session was started, so nothing of the stream is ever read here. */
function readHello(socket: Socket, { onStream }: StreamListenerOptions): void {
  let hello = "";
  const refuse = (): void => void socket.destroy();
  const timer = setTimeout(refuse, HELLO_TIMEOUT_MS);
  socket.once("error", refuse).once("close", () => clearTimeout(timer));
  socket.setEncoding("latin1");
  const read = (text: string): void => {
    hello += text;
    if (hello.length < STREAM_HELLO_BYTES) return;
    clearTimeout(timer);
    socket.off("data", read);
    const parts = /^([0-9a-f]{32})([012])$/.exec(hello);
    const isTaken = parts !== null && onStream(parts[1] ?? "", Number(parts[2]), socket);
    if (isTaken) socket.write(Uint8Array.of(STREAM_ACCEPTED));
    else refuse();
  };
  socket.on("data", read);
}

/** In constant time. */
export function isSameToken(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}
