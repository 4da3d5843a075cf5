/**
 * Where the kernel sends every connection of a service that is not for loopback (native/init/redirect.c). What the
 * service dialled is asked of the kernel (SO_ORIGINAL_DST), never of the service.
 */
import { createServer, type Server, type Socket } from "node:net";

import { PROBE_ADDRESS } from "../../wire/egress-addresses.ts";
import { openConnection } from "../open-connection.ts";

export interface Destination {
  /** In the kernel's spelling. */
  readonly address: string;
  readonly port: number;
}

export interface RedirectListenerOptions {
  /** What a connection was for before it was redirected; undefined: it was not. */
  readonly originalDestination: (socket: Socket) => Destination | undefined;
  readonly onConnection: (socket: Socket, destination: Destination) => void;
  /** Descriptors of bound sockets; `address` is what each is bound to. */
  readonly held: readonly HeldListener[];
}

export interface HeldListener {
  readonly address: string;
  readonly fd: number;
}

export interface RedirectListener extends AsyncDisposable {
  /** Loopback addresses that it listens on. */
  readonly addresses: readonly string[];
  /** True if the kernel redirects. */
  readonly isRedirected: boolean;
}

const BACKLOG = 4096;
const PROBE_PORT = 1;
const PROBE_TIMEOUT_MS = 2_000;

/** Listens on the sockets that it was lent, and finds out whether the kernel redirects to them. */
export async function openRedirectListener(options: RedirectListenerOptions): Promise<RedirectListener> {
  const probe = Promise.withResolvers<true>();
  await using opening = new AsyncDisposableStack();
  const addresses: string[] = [];
  for (const { address, fd } of options.held) {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (socket) => {
      if (meet(socket, options) === "probe") probe.resolve(true);
    });
    await listen(server, fd);
    addresses.push(address);
    // Not waited for: a server is closed only when the last connection is.
    opening.defer(() => void server.close());
  }
  const isRedirected = addresses.length > 0 && (await probeRedirection(probe.promise));
  const owned = opening.move();
  return { addresses, isRedirected, [Symbol.asyncDispose]: async () => await owned.disposeAsync() };
}

function meet(socket: Socket, options: RedirectListenerOptions): "probe" | "connection" {
  socket.on("error", () => undefined); // seen by whoever reads or writes
  const destination = options.originalDestination(socket);
  if (destination?.address === PROBE_ADDRESS) {
    socket.destroy();
    return "probe";
  }
  // Somebody dialled the listener itself: there is nothing that it could be for.
  if (destination === undefined) socket.resetAndDestroy();
  else options.onConnection(socket, destination);
  return "connection";
}

async function probeRedirection(arrived: Promise<true>): Promise<boolean> {
  const signal = AbortSignal.timeout(PROBE_TIMEOUT_MS);
  try {
    const socket = await openConnection(PROBE_ADDRESS, PROBE_PORT, signal);
    socket.on("error", () => undefined).destroy();
  } catch {
    return false;
  }
  const { promise: late, resolve } = Promise.withResolvers<false>();
  signal.addEventListener("abort", () => resolve(false), { once: true });
  return await Promise.race([arrived, late]);
}

async function listen(server: Server, fd: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen({ fd, backlog: BACKLOG }, resolve);
  await promise;
  server.off("error", reject).on("error", () => undefined);
}
