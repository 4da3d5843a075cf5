/**
 * The host's side of hybrid vsock (wire/hybrid-vsock.ts) for the local backend: `vsock.sock`, on which tools of the
 * host ask for ports of the enclave, and `vsock.sock_PORT`, on which the enclave reaches ports of the host. In the
 * enclave's user namespace root has another uid on the host; what it must reach is handed to that uid.
 */
import { chmod, chown, mkdir, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";

import { withDeadline } from "../../../core/deadline.ts";
import { KitError } from "../../../core/errors.ts";
import { GUEST_FOLDER, HOST_SOCKET, hostListenerName } from "../../../wire/hybrid-vsock.ts";
import { checkSocketPath, serveTool } from "../tool-socket.ts";

const DIAL_TIMEOUT_MS = 5_000;
const MAX_CONNECTIONS = 4096;

export interface VsockSocketsOptions {
  readonly directory: string;
  /** uid and gid on the host of root inside; the caller's own where they are the same. */
  readonly rootUid: number;
  readonly signal: AbortSignal;
}

export class VsockSockets implements AsyncDisposable {
  readonly #options: VsockSocketsOptions;
  readonly #servers: Server[] = [];

  private constructor(options: VsockSocketsOptions) {
    this.#options = options;
  }

  /** @throws E_HOST_STATE_PATH if socket paths would be too long. */
  static async open(options: VsockSocketsOptions): Promise<VsockSockets> {
    const { directory, rootUid } = options;
    checkSocketPath(join(directory, hostListenerName(65_535)));
    const guest = join(directory, GUEST_FOLDER);
    await mkdir(guest, { recursive: true, mode: 0o700 });
    if (rootUid !== process.getuid?.()) {
      await chmod(directory, 0o711);
      await chown(guest, rootUid, rootUid);
    }
    const sockets = new VsockSockets(options);
    try {
      const { signal } = options;
      const dial = sockets.connect.bind(sockets);
      await sockets.#listen(
        join(directory, HOST_SOCKET),
        (socket) => void serveTool(socket, { dial, signal }),
      );
    } catch (error) {
      await sockets[Symbol.asyncDispose]();
      throw error;
    }
    return sockets;
  }

  /** Hears the enclave's connections to `port` of the host. */
  async onConnect(port: number, handler: (socket: Socket) => void): Promise<void> {
    const path = join(this.#options.directory, hostListenerName(port));
    await this.#listen(path, handler);
    const { rootUid } = this.#options;
    if (rootUid !== process.getuid?.()) await chown(path, rootUid, rootUid);
  }

  /** Connects to `port` of the enclave. @throws E_BACKEND_CONNECT */
  async connect(port: number, signal: AbortSignal): Promise<Socket> {
    const path = join(this.#options.directory, GUEST_FOLDER, String(port));
    const socket = connect({ path, allowHalfOpen: true });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const deadline = withDeadline(signal, DIAL_TIMEOUT_MS);
    const abort = (): void => reject(deadline.reason);
    socket.once("connect", resolve);
    socket.once("error", reject);
    deadline.addEventListener("abort", abort, { once: true });
    try {
      await promise;
      socket.off("error", reject).on("error", () => socket.destroy());
      return socket;
    } catch (error) {
      socket.destroy();
      throw new KitError("E_BACKEND_CONNECT", `the enclave does not listen on vsock port ${port}`, {
        cause: error,
      });
    } finally {
      deadline.removeEventListener("abort", abort);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) server.close();
    await rm(this.#options.directory, { recursive: true, force: true });
  }

  async #listen(path: string, handler: (socket: Socket) => void): Promise<void> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, handler);
    server.maxConnections = MAX_CONNECTIONS;
    this.#servers.push(server);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen(path, resolve);
    await promise;
    await chmod(path, 0o600);
  }
}
