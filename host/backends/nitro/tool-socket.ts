/** The socket of hybrid vsock in the state directory: commands of this host reach the enclave as on the other backends. */
import { chmod, mkdir, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";

import { HOST_SOCKET } from "../../../wire/hybrid-vsock.ts";
import { checkSocketPath } from "../local/vsock-sockets.ts";
import { serveTool, type ToolHandshakeOptions } from "../tool-handshake.ts";

const MAX_CONNECTIONS = 1024;

/** @param directory made, and removed at the end. @throws E_HOST_STATE_PATH */
export async function openToolSocket(
  directory: string,
  options: ToolHandshakeOptions,
): Promise<AsyncDisposable> {
  const path = join(directory, HOST_SOCKET);
  checkSocketPath(path);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (tool) => {
    void serveTool(tool, options);
  });
  server.maxConnections = MAX_CONNECTIONS;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject).listen(path, resolve);
  await promise;
  await chmod(path, 0o600);
  return {
    [Symbol.asyncDispose]: async () => {
      server.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
