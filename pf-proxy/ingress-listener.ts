/**
 * The host's side of ingress: a TCP listener whose connections become vsock connections to the enclave's ingress port,
 * each with a preface naming the service port (wire/ingress-preface.ts). What the enclave refuses is reset here, as a
 * closed port would do.
 */
import { createServer, type Server, type Socket } from "node:net";

import type { Duplex } from "node:stream";

import { Deadline } from "../core/deadline.ts";
import { isErrno, KitError } from "../core/errors.ts";
import { decodeIngressStatus, encodeIngressPreface } from "../wire/ingress-preface.ts";
import { findPortHolder } from "./port-holder.ts";
import { readExactly } from "./preface-reader.ts";
import { relay } from "./relay.ts";
import type { TrafficLedger } from "./traffic/traffic-ledger.ts";

const CONNECT_TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 1024;

export interface IngressListenerOptions {
  readonly hostAddress: string;
  /** 0: a free one. */
  readonly hostPort: number;
  /** null: `dial` leads to who is meant, and there is no preface. */
  readonly servicePort: number | null;
  /** Connects to the ingress port of the enclave, or to another one. */
  readonly dial: (signal: AbortSignal) => Promise<Duplex>;
  /** Ends every connection. */
  readonly signal: AbortSignal;
  readonly ledger: TrafficLedger;
}

export interface IngressListener extends AsyncDisposable {
  readonly hostPort: number;
  /** Takes no more connections; those that are go on. */
  drain: () => void;
  /** Connections relayed now, and connections turned away since the start. */
  readonly counts: { readonly live: number; readonly refused: number };
}

/** Listens at once; connections are reset until `dial` works. @throws E_HOST_PORT_IN_USE, E_HOST_PORT_REFUSED */
export async function openIngressListener(options: IngressListenerOptions): Promise<IngressListener> {
  const counts = { live: 0, refused: 0 };
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (client) => {
    if (counts.live >= MAX_CONNECTIONS) {
      counts.refused += 1;
      client.resetAndDestroy();
      return;
    }
    counts.live += 1;
    sockets.add(client);
    client.once("close", () => sockets.delete(client));
    void serve(client, options, counts).finally(() => (counts.live -= 1));
  });
  const hostPort = await listen(server, options);
  return {
    hostPort,
    drain: () => void server.close(),
    counts,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.resetAndDestroy();
      const { promise, resolve } = Promise.withResolvers<unknown>();
      server.close(resolve); // calls back also when it was closed before
      await promise;
    },
  };
}

async function serve(
  client: Socket,
  options: IngressListenerOptions,
  counts: { refused: number },
): Promise<void> {
  const ignore = (): void => undefined; // a client that resets while we dial is seen by the relay or not at all
  client.on("error", ignore);
  const entry = options.ledger.open({ direction: "ingress", peer: describePeer(options) });
  const enclave = await openStream(options).catch(() => undefined);
  if (enclave === undefined) {
    counts.refused += 1;
    entry.close(true);
    client.resetAndDestroy();
    return;
  }
  entry.open();
  await relay(client, enclave, {
    signal: options.signal,
    onBytes: (from, sizeBytes) => (from === "a" ? entry.addIn(sizeBytes) : entry.addOut(sizeBytes)),
  });
  entry.close();
}

function describePeer({ servicePort }: IngressListenerOptions): string {
  return servicePort === null ? "attestation" : `port ${servicePort}`;
}

/** @throws E_INGRESS_REFUSED where the enclave says no. */
async function openStream({ dial, servicePort, signal }: IngressListenerOptions): Promise<Duplex> {
  using connecting = new Deadline(signal, CONNECT_TIMEOUT_MS);
  const deadline = connecting.signal;
  const stream = await dial(deadline);
  if (servicePort === null) return stream;
  try {
    stream.write(encodeIngressPreface(servicePort));
    const [byte = 255] = await readExactly(stream, 1, deadline);
    const status = decodeIngressStatus(byte);
    if (status !== "connected")
      throw new KitError("E_INGRESS_REFUSED", `port ${servicePort} of the enclave: ${status}`);
    return stream;
  } catch (error) {
    stream.destroy();
    throw error;
  }
}

async function listen(server: Server, { hostAddress, hostPort }: IngressListenerOptions): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen({ host: hostAddress, port: hostPort, backlog: 511 }, resolve);
  try {
    await promise;
  } catch (error) {
    const place = `${hostAddress.includes(":") ? `[${hostAddress}]` : hostAddress}:${hostPort}`;
    if (isErrno(error, "EADDRINUSE")) {
      const holder = await findPortHolder(hostPort);
      const who = holder === undefined ? "another program" : `process ${holder}`;
      throw new KitError("E_HOST_PORT_IN_USE", `${place} is in use by ${who}`, { cause: error });
    }
    const reason = isErrno(error) ? error.code : String(error);
    throw new KitError("E_HOST_PORT_REFUSED", `cannot listen on ${place}: ${reason}`, { cause: error });
  }
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : hostPort;
}
