/**
 * AF_VSOCK as Node's own sockets: back-pressure, half-close, timeouts, everything that takes a net.Socket.
 *
 * The addon makes the descriptors. libuv does not know their address family and would refuse them, but its Pipe handle
 * never looks: any stream socket works in it. Node gives the class of that handle away with every Unix socket, so no
 * deprecated door is needed. A connection must be waited for before it becomes a socket: a write before that fails
 * with ENOTCONN, where TCP would wait.
 */
import { Socket } from "node:net";

import { KitError } from "../core/errors.ts";
import type { NativeAddon } from "./addon.ts";

/** Any CID of this machine. */
const CID_ANY = 0xff_ff_ff_ff;
/** Linux refuses at once what does not fit, as it does not for TCP; this is its own maximum. */
const BACKLOG = 4096;

export interface VsockAddress {
  readonly cid: number;
  readonly port: number;
}

/** What we use of libuv's handle for Unix sockets. */
interface PipeHandle {
  readonly fd: number;
  open(fd: number): number;
  listen(backlog: number): number;
  close(callback?: () => void): void;
  onconnection?: (status: number, handle: PipeHandle | undefined) => void;
}

type PipeClass = new (type: number) => PipeHandle;
/** PipeConstants of Node. */
const PIPE_SOCKET = 0;
const PIPE_SERVER = 1;

/**
 * Connects; the socket allows half-open connections.
 * @throws errno (ECONNRESET: nobody listens on that port), the signal's reason
 */
export async function connectVsock(
  address: VsockAddress,
  { addon, signal }: { readonly addon: NativeAddon; readonly signal: AbortSignal },
): Promise<Socket> {
  signal.throwIfAborted();
  const fd = addon.vsockSocket();
  let handle: PipeHandle;
  try {
    if (!addon.vsockConnect(fd, address.cid, address.port)) await awaitConnection(addon, fd, signal);
    handle = adopt(findPipeClass(addon), PIPE_SOCKET, fd);
  } catch (error) {
    addon.closeFd(fd);
    throw error;
  }
  return toSocket(handle);
}

async function awaitConnection(addon: NativeAddon, fd: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const abort = (): void => reject(signal.reason);
  const watch = addon.watchWritable(fd, resolve);
  signal.addEventListener("abort", abort, { once: true });
  try {
    await promise;
    addon.socketError(fd);
  } finally {
    watch.stop();
    signal.removeEventListener("abort", abort);
  }
}

export interface VsockListenOptions {
  readonly addon: NativeAddon;
  /** The socket is the handler's from then on. @param peerCid where it comes from */
  readonly onConnection: (socket: Socket, peerCid: number) => void;
}

/**
 * Listens on a port of every CID of this machine until disposed of; connections that were accepted stay.
 * @throws errno (EADDRINUSE, EACCES)
 */
export function listenVsock(port: number, { addon, onConnection }: VsockListenOptions): AsyncDisposable {
  const fd = addon.vsockSocket();
  let handle: PipeHandle;
  try {
    addon.vsockBind(fd, CID_ANY, port);
    addon.vsockListen(fd, BACKLOG);
    handle = adopt(findPipeClass(addon), PIPE_SERVER, fd);
  } catch (error) {
    addon.closeFd(fd);
    throw error;
  }
  handle.onconnection = (status, accepted) => {
    // A connection that failed between its arrival and its acceptance is nobody's.
    if (status !== 0 || accepted === undefined) return;
    const cid = findPeer(addon, accepted);
    if (cid === undefined) accepted.close();
    else onConnection(toSocket(accepted), cid);
  };
  const status = handle.listen(BACKLOG);
  if (status !== 0) {
    handle.close();
    throw new KitError("E_NATIVE_ADDON", `cannot listen on vsock port ${port}: status ${status}`);
  }
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  return {
    [Symbol.asyncDispose]: async () => {
      // Called again it does nothing, and calls nothing back.
      handle.close(resolve);
      await closed;
    },
  };
}

/** Undefined: it has gone already. */
function findPeer(addon: NativeAddon, { fd }: PipeHandle): number | undefined {
  try {
    return addon.vsockPeer(fd).cid;
  } catch {
    return undefined;
  }
}

/** The handle owns the descriptor afterwards. */
function adopt(Pipe: PipeClass, type: number, fd: number): PipeHandle {
  const handle = new Pipe(type);
  const status = handle.open(fd);
  if (status === 0) return handle;
  throw new KitError("E_NATIVE_ADDON", `libuv takes no AF_VSOCK descriptor: status ${status}`);
}

/** `handle` is what Node itself makes sockets from; its type declarations know another kind alone. */
function toSocket(handle: PipeHandle): Socket {
  const socket: unknown = Reflect.construct(Socket, [{ handle, allowHalfOpen: true }]);
  if (socket instanceof Socket) return socket;
  throw new TypeError("not a socket");
}

function findPipeClass(addon: NativeAddon): PipeClass {
  const [fd, other] = addon.socketPair();
  addon.closeFd(other);
  const socket = new Socket({ fd });
  try {
    const handle: unknown = Reflect.get(socket, "_handle");
    const found: unknown = typeof handle === "object" && handle !== null ? handle.constructor : undefined;
    if (isPipeClass(found)) return found;
  } finally {
    socket.destroy();
  }
  throw new KitError("E_NATIVE_ADDON", "this Node has no Pipe handle");
}

function isPipeClass(found: unknown): found is PipeClass {
  return typeof found === "function" && found.name === "Pipe";
}
