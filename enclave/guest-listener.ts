/**
 * Listeners on the enclave's vsock ports in the local form: Unix sockets in the folder that the launcher passed down
 * (wire/hybrid-vsock.ts). The folder is reached through its descriptor: no process of the enclave has a path to it.
 */
import { chmod, rm } from "node:fs/promises";
import type { Server } from "node:net";

import { GUEST_FOLDER } from "../wire/hybrid-vsock.ts";

/** Connections that may wait to be accepted. */
const BACKLOG = 511;
/** Owner and group: the group is that of the host's user. */
const SOCKET_MODE = 0o660;

/** Path of a port's socket. @param directory the vsock directory, for example /proc/self/fd/4. */
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
  server.off("error", reject);
  await chmod(path, SOCKET_MODE);
}
