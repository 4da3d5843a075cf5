/**
 * Listeners on the enclave's vsock ports, in both forms. In the local form they are Unix sockets in the folder that the
 * launcher passed down (wire/hybrid-vsock.ts), reached through its descriptor: no process of the enclave has a path to
 * it. In a machine they are AF_VSOCK sockets.
 */
import { chmod, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";

import type { NativeAddon } from "./addon.ts";
import { listenVsock } from "./vsock-sockets.ts";
import { GUEST_FOLDER } from "../wire/hybrid-vsock.ts";

/** Hears a port until disposed of. Connections are the handler's and stay open. */
export type ListenVsock = (port: number, onConnection: (socket: Socket) => void) => Promise<AsyncDisposable>;

/** Connections that may wait to be accepted. */
const BACKLOG = 511;
/** Owner and group: the group is that of the host's user. */
export const GUEST_SOCKET_MODE = 0o660;

/** @param directory the vsock directory, for example /proc/self/fd/4. */
export function listenInDirectory(directory: string): ListenVsock {
  return async (port, onConnection) => {
    const server = createServer({ allowHalfOpen: true }, onConnection);
    await listenAt(server, guestSocketPath(directory, port));
    // Not waited for: a server is closed only when the last connection is.
    return { [Symbol.asyncDispose]: async () => void server.close() };
  };
}

export function listenOnVsock(addon: NativeAddon): ListenVsock {
  return async (port, onConnection) => await Promise.resolve(listenVsock(port, { addon, onConnection }));
}

/** A socket that is bound already and belongs to somebody else: it stays when this program ends. */
export function listenOnDescriptor(fd: number): ListenVsock {
  return async (_port, onConnection) => {
    const server = createServer({ allowHalfOpen: true }, onConnection);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen({ fd, backlog: BACKLOG }, resolve);
    await promise;
    server.off("error", reject).on("error", () => undefined);
    return { [Symbol.asyncDispose]: async () => void server.close() };
  };
}

export function guestSocketPath(directory: string, port: number): string {
  return `${directory}/${GUEST_FOLDER}/${port}`;
}

/** Lets `server` listen at `path`; a socket that a gateway before this one left is replaced. */
export async function listenAt(server: Server, path: string): Promise<void> {
  await rm(path, { force: true });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen({ path, backlog: BACKLOG }, resolve);
  await promise;
  // A connection that could not be accepted is its client's trouble, not this program's.
  server.off("error", reject).on("error", () => undefined);
  await chmod(path, GUEST_SOCKET_MODE);
}
