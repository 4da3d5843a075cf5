/** DNS over UDP and TCP, on every address that there is. One owner: when it goes, every socket goes. */
import { createSocket, type Socket as DatagramSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";

import { isErrno } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { DNS_STREAM_TIMEOUT_MS, serveDnsStream } from "./dns-stream.ts";
import type { Resolver } from "./resolver.ts";

export type DnsListenersOptions = {
  readonly resolver: Resolver;
  readonly log: Log;
  /** How long a connection may take for its next question, and its client for an answer. */
  readonly streamTimeoutMs?: number;
} & (
  | { readonly addresses: readonly string[]; readonly port: number }
  /** Descriptors of bound sockets, and what each is bound to. */
  | { readonly held: { readonly udp: readonly HeldPlace[]; readonly tcp: readonly HeldPlace[] } }
);

interface HeldPlace {
  readonly address: string;
  readonly fd: number;
}

const MAX_CONNECTIONS = 256;
const BACKLOG = 511;
/** Datagrams in work; more are dropped, as a network would. */
const MAX_IN_WORK = 1024;
/** Some hundred questions that came while this process did something else; the kernel gives what it allows. */
const RECEIVE_BUFFER_BYTES = 1024 * 1024;

type Place = HeldPlace | { readonly address: string; readonly port: number };

/** @throws errno; an address that this machine does not have is left out and logged */
export async function openDnsListeners(options: DnsListenersOptions): Promise<AsyncDisposable> {
  const { resolver, log, streamTimeoutMs = DNS_STREAM_TIMEOUT_MS } = options;
  const [udp, tcp] = placesOf(options);
  await using opening = new AsyncDisposableStack();
  for (const place of udp) {
    const socket = await unlessMissing(openDatagrams(place, resolver), place, log);
    if (socket !== undefined) opening.defer(() => closeDatagrams(socket));
  }
  for (const place of tcp) {
    // In the order of the last question: the first of them is silent for longest.
    const open = new Set<Socket>();
    const serve = (socket: Socket): void => {
      makeRoom(open);
      open.add(socket);
      socket.once("close", () => open.delete(socket));
      const onQuestion = (): void => void (open.delete(socket) && open.add(socket));
      void serveDnsStream(socket, { resolver, timeoutMs: streamTimeoutMs, onQuestion });
    };
    const server = await unlessMissing(openStreams(place, serve), place, log);
    if (server !== undefined) opening.defer(() => closeStreams(server, open));
  }
  return opening.move();
}

function placesOf(options: DnsListenersOptions): [readonly Place[], readonly Place[]] {
  if ("held" in options) return [options.held.udp, options.held.tcp];
  const places = options.addresses.map((address) => ({ address, port: options.port }));
  return [places, places];
}

async function unlessMissing<T>(opening: Promise<T>, place: Place, log: Log): Promise<T | undefined> {
  try {
    return await opening;
  } catch (error) {
    const isMissing =
      isErrno(error, "EADDRNOTAVAIL") || isErrno(error, "EAFNOSUPPORT") || isErrno(error, "EACCES");
    if (!isMissing) throw error;
    log.warn("the resolver does not listen", { ...place, reason: error.code });
    return undefined;
  }
}

/** Silent clients must not keep out those that ask. */
function makeRoom(open: Set<Socket>): void {
  const [silent] = open;
  if (silent === undefined || open.size < MAX_CONNECTIONS) return;
  open.delete(silent);
  silent.destroy();
}

async function openDatagrams(place: Place, resolver: Resolver): Promise<DatagramSocket> {
  const type = place.address.includes(":") ? "udp6" : "udp4";
  const socket = createSocket({ type, recvBufferSize: RECEIVE_BUFFER_BYTES });
  let inWork = 0;
  socket.on("message", (message, peer) => {
    if (inWork >= MAX_IN_WORK) return;
    inWork += 1;
    const reply = async (): Promise<void> => {
      const answer = await resolver.answer(message, "udp");
      if (answer === undefined) return;
      const { promise, resolve } = Promise.withResolvers<unknown>();
      socket.send(answer, peer.port, peer.address, resolve);
      await promise;
    };
    // What fails is a socket that was closed meanwhile, or a peer without a port.
    void reply()
      .catch(() => undefined)
      .finally(() => (inWork -= 1));
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once("error", reject);
  if ("fd" in place) socket.bind({ fd: place.fd }, resolve);
  else socket.bind({ address: place.address, port: place.port }, resolve);
  try {
    await promise;
  } catch (error) {
    socket.close();
    throw error;
  }
  // Errors of single datagrams (a client that is gone) concern nobody.
  socket.off("error", reject).on("error", () => undefined);
  return socket;
}

async function closeDatagrams(socket: DatagramSocket): Promise<void> {
  const closed = once(socket, "close");
  socket.close();
  await closed;
}

async function openStreams(place: Place, serve: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, serve);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  if ("fd" in place) server.listen({ fd: place.fd, backlog: BACKLOG }, resolve);
  else server.listen({ host: place.address, port: place.port, backlog: BACKLOG }, resolve);
  await promise;
  server.off("error", reject).on("error", () => undefined);
  return server;
}

async function closeStreams(server: Server, open: ReadonlySet<Socket>): Promise<void> {
  const closed = once(server, "close");
  server.close();
  for (const socket of open) socket.destroy();
  await closed;
}
