/** DNS over UDP and TCP (RFC 7766: a length before each message, several on one connection). */
import { createSocket, type Socket as DatagramSocket } from "node:dgram";
import { createServer, type Server, type Socket } from "node:net";

import { isErrno } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { DNS_HEADER_BYTES, MAX_DNS_MESSAGE_BYTES } from "./dns-message.ts";
import type { Resolver } from "./resolver.ts";

export type DnsListenersOptions = {
  readonly resolver: Resolver;
  readonly log: Log;
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
const IDLE_TIMEOUT_MS = 10_000;
/** Answers of one connection that its client has not taken yet. */
const MAX_UNSENT_BYTES = 64 * 1024;
/** Datagrams in work; more are dropped, as a network would. */
const MAX_IN_WORK = 1024;
const LENGTH_BYTES = 2;

type Place = HeldPlace | { readonly address: string; readonly port: number };

/** @throws errno; an address that this machine does not have is left out and logged */
export async function openDnsListeners(options: DnsListenersOptions): Promise<AsyncDisposable> {
  const { resolver, log } = options;
  const [udp, tcp] = placesOf(options);
  await using opening = new AsyncDisposableStack();
  for (const place of udp) {
    const socket = await unlessMissing(openDatagrams(place, resolver), place, log);
    if (socket !== undefined) opening.defer(() => void socket.close());
  }
  for (const place of tcp) {
    const open = new Set<Socket>();
    const server = await unlessMissing(openStreams(place, resolver, open), place, log);
    if (server === undefined) continue;
    opening.defer(() => {
      for (const socket of open) socket.destroy();
      server.close();
    });
  }
  return opening.move();
}

function placesOf(options: DnsListenersOptions): [readonly Place[], readonly Place[]] {
  if ("held" in options) {
    return [options.held.udp, options.held.tcp];
  }
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

async function openDatagrams(place: Place, resolver: Resolver): Promise<DatagramSocket> {
  const socket = createSocket(place.address.includes(":") ? "udp6" : "udp4");
  let inWork = 0;
  socket.on("message", (message, peer) => {
    if (inWork >= MAX_IN_WORK) return;
    inWork += 1;
    const reply = async (): Promise<void> => {
      const answer = await resolver.answer(message, "udp");
      if (answer !== undefined) socket.send(answer, peer.port, peer.address, () => undefined);
    };
    // What fails is a socket that was closed meanwhile.
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

async function openStreams(place: Place, resolver: Resolver, open: Set<Socket>): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    if (open.size >= MAX_CONNECTIONS) return void socket.destroy();
    open.add(socket);
    socket.once("close", () => open.delete(socket)).on("error", () => undefined);
    void serveStream(socket, resolver).finally(() => socket.destroy());
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  if ("fd" in place) server.listen({ fd: place.fd, backlog: 511 }, resolve);
  else server.listen({ host: place.address, port: place.port, backlog: 511 }, resolve);
  await promise;
  server.off("error", reject).on("error", () => undefined);
  return server;
}

/** Question after question, until the client ends, says nonsense or nothing. */
async function serveStream(socket: Socket, resolver: Resolver): Promise<void> {
  socket.setTimeout(IDLE_TIMEOUT_MS, () => socket.destroy());
  let kept: Buffer = Buffer.alloc(0);
  try {
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
      if (!Buffer.isBuffer(chunk)) return;
      kept = kept.length === 0 ? chunk : Buffer.concat([kept, chunk]);
      for (;;) {
        if (kept.length < LENGTH_BYTES) break;
        const lengthBytes = kept.readUInt16BE(0);
        if (lengthBytes < DNS_HEADER_BYTES || lengthBytes > MAX_DNS_MESSAGE_BYTES) return;
        if (kept.length < LENGTH_BYTES + lengthBytes) break;
        const answer = await resolver.answer(kept.subarray(LENGTH_BYTES, LENGTH_BYTES + lengthBytes), "tcp");
        if (answer === undefined || socket.writableLength > MAX_UNSENT_BYTES) return;
        const length = Buffer.alloc(LENGTH_BYTES);
        length.writeUInt16BE(answer.length);
        socket.write(Buffer.concat([length, answer]));
        kept = kept.subarray(LENGTH_BYTES + lengthBytes);
      }
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    socket.once("close", resolve).end(resolve);
    await promise;
  } catch {
    // The client reset the connection, or was too slow.
  }
}
