/**
 * The vsock device of a virtual machine, outside of the hypervisor: the guest's packets come through rings in shared
 * memory, which a front end (QEMU) tells us of by vhost-user, and every connection is a stream here. Nothing of the
 * guest or the front end is trusted: what breaks the rings or the protocol ends the session, what is wrong with a
 * packet ends its connection.
 *
 *   guest's driver <-> rings (virtqueue) <-> transport <-> connection table <-> connections <-> streams
 *        QEMU      <-> vhost-user messages <-> session: memory, rings, eventfds
 */
import { chmod } from "node:fs/promises";
import { type Server, type Socket, createServer } from "node:net";

import { KitError, toKitError } from "../../../../core/errors.ts";
import type { NativeAddon } from "../../../../native/addon.ts";
import { vhostError } from "../../../../wire/vhost-user/frames.ts";
import { type ConnectionHandler, ConnectionTable } from "./connection-table.ts";
import { type DeviceCounts, createCounts } from "./device-counts.ts";
import { FrontEndSession } from "./front-end-session.ts";
import { PacketQueue } from "./packet-queue.ts";
import { Transport } from "./transport.ts";
import type { VsockSocket } from "./vsock-socket.ts";

export interface VsockDeviceOptions {
  /** Of the Unix socket that the device listens on; the front end connects to it. */
  readonly socketPath: string;
  readonly addon: NativeAddon;
  readonly guestCid: number;
  /** A session ended for a fault of the front end or of the guest: E_QEMU_VSOCK_FRONT_END, E_QEMU_VSOCK_GUEST. */
  readonly onFault?: (error: KitError) => void;
}

/** Listens for its front end until disposed of. @throws errno of listen */
export async function openVsockDevice(options: VsockDeviceOptions): Promise<VsockDevice> {
  const device = new VsockDevice(options);
  try {
    await device.listen(options.socketPath);
    return device;
  } catch (error) {
    await device[Symbol.asyncDispose]();
    throw error;
  }
}

export class VsockDevice implements AsyncDisposable {
  readonly #options: VsockDeviceOptions;
  readonly #counts = createCounts();
  readonly #table: ConnectionTable;
  readonly #transport: Transport;
  readonly #server: Server;
  #frontEnd: Socket | undefined;
  #session: FrontEndSession | undefined;

  /** Use openVsockDevice. */
  constructor(options: VsockDeviceOptions) {
    this.#options = options;
    const { guestCid } = options;
    const counts = this.#counts;
    const queue = new PacketQueue(guestCid, counts);
    const onReady = (): void => this.#transport.schedule();
    this.#table = new ConnectionTable({ guestCid, counts, queue, onReady });
    const onFault = (error: unknown): void => this.#session?.fail(error);
    this.#transport = new Transport({ queue, table: this.#table, onFault });
    // Paused: the session reads from the descriptor, because Node would lose the descriptors that come with the bytes.
    this.#server = createServer({ pauseOnConnect: true }, (socket) => this.#serve(socket));
  }

  /** What happened so far. */
  stats(): Readonly<DeviceCounts> {
    return { ...this.#counts };
  }

  /**
   * Hears connections that the guest opens to `port` of CID 2 or 3; without a handler they get a RST. The socket is
   * the handler's, which must listen for its errors.
   */
  onConnect(port: number, handler: ConnectionHandler): void {
    this.#table.setHandler(port, handler);
  }

  /**
   * Connects to `port` of the guest.
   * @throws E_BACKEND_CONNECT if nobody listens there or the guest has no driver (yet), the signal's reason
   */
  async connect(port: number, signal: AbortSignal): Promise<VsockSocket> {
    if (!this.#transport.isRunning)
      throw new KitError("E_BACKEND_CONNECT", "the enclave has no vsock: it does not run, or not yet");
    return await this.#table.connect(port, signal);
  }

  async listen(socketPath: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once("error", reject);
    this.#server.listen(socketPath, resolve);
    await promise;
    await chmod(socketPath, 0o600);
  }

  /** Every connection fails, the front end is let go, nothing is mapped any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    this.#session?.[Symbol.dispose]();
    this.#release();
    await closed;
  }

  /** One front end at a time: another is sent away. */
  #serve(socket: Socket): void {
    socket.on("error", () => socket.destroy());
    if (this.#session !== undefined) return void socket.destroy();
    this.#frontEnd = socket;
    try {
      this.#session = new FrontEndSession({
        addon: this.#options.addon,
        fd: descriptorOf(socket),
        guestCid: this.#options.guestCid,
        transport: this.#transport,
        onStop: () => this.#table.failAll(),
        onEnd: (error) => this.#onEnd(error),
      });
    } catch (error) {
      this.#onEnd(error);
    }
  }

  #onEnd(error: unknown): void {
    this.#release();
    if (error !== undefined) this.#options.onFault?.(faultOf(error));
  }

  #release(): void {
    this.#session = undefined;
    this.#frontEnd?.destroy();
    this.#frontEnd = undefined;
    this.#table.failAll();
  }
}

/** Errors of system calls come of descriptors that are not what the front end said. */
function faultOf(error: unknown): KitError {
  if (error instanceof KitError) return error;
  const { message } = toKitError(error);
  return new KitError("E_QEMU_VSOCK_FRONT_END", `vhost-user: ${message}`, { cause: error });
}

/** Node has no public way to it; it stays the socket's. */
function descriptorOf(socket: Socket): number {
  const handle: unknown = Reflect.get(socket, "_handle");
  if (typeof handle === "object" && handle !== null && "fd" in handle && typeof handle.fd === "number")
    return handle.fd;
  throw vhostError("the socket of the front end has no descriptor");
}
