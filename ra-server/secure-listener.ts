/**
 * TLS on connections that somebody else accepts: version 1.3 alone, a whole handshake each time, and a certificate that
 * can be replaced for the handshakes to come while connections go on.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { constants } from "node:crypto";
import type { Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";

import { RA_TLS_ALPN } from "../wire/ra-tls.ts";
import type { ConnectionGuard, Phase } from "./connection-guard.ts";
import type { TlsIdentity } from "./tls-identity.ts";

export interface SecureListenerOptions {
  /** PEM of the authorities of clients; null: clients show no certificate. */
  readonly clientCa: string | null;
  readonly guard: ConnectionGuard;
  /** A connection whose client may speak; whoever throws refuses it. */
  readonly onSecure: (socket: TLSSocket) => void;
  readonly onHandshake: (result: "done" | "failed" | "refused") => void;
}

export class SecureListener implements Disposable {
  readonly #options: SecureListenerOptions;
  readonly #server: Server;
  /** The library does not tell which connection a TLS socket came from, but it works in that connection's context. */
  readonly #accepting = new AsyncLocalStorage<Socket>();
  readonly #carriers = new WeakMap<Socket, Socket>();

  constructor(options: SecureListenerOptions) {
    this.#options = options;
    this.#server = createServer({
      minVersion: "TLSv1.3",
      ALPNProtocols: [RA_TLS_ALPN],
      requestCert: options.clientCa !== null,
      // Decided in `onSecure`, by a clock that the library does not have.
      rejectUnauthorized: false,
    });
    this.#server.on("secureConnection", (socket) => this.#begin(socket));
    this.#server.on("tlsClientError", (_error, socket) => {
      options.onHandshake("failed");
      socket.destroy();
    });
    this.#server.on("error", () => undefined);
  }

  /** For the handshakes from now on. */
  install({ key, cert }: TlsIdentity): void {
    const { clientCa } = this.#options;
    this.#server.setSecureContext({
      key,
      cert,
      ...(clientCa === null ? {} : { ca: clientCa }),
      minVersion: "TLSv1.3",
      // What is left is a ticket by which nothing can be found: no session is ever kept.
      secureOptions: constants.SSL_OP_NO_TICKET,
    });
  }

  readonly accept = (carrier: Socket): void => {
    carrier.on("error", () => undefined);
    if (!this.#options.guard.admit(carrier)) return;
    this.#accepting.run(carrier, () => this.#server.emit("connection", carrier));
  };

  /** Moves the connection under a TLS socket to its next phase. */
  enter(socket: Socket, phase: Phase): void {
    const carrier = this.#carriers.get(socket);
    if (carrier !== undefined) this.#options.guard.enter(carrier, phase);
  }

  [Symbol.dispose](): void {
    this.#server.close();
  }

  #begin(socket: TLSSocket): void {
    const { onSecure, onHandshake } = this.#options;
    socket.on("error", () => undefined);
    const carrier = this.#accepting.getStore();
    if (carrier === undefined) throw new Error("a TLS socket of no connection");
    this.#carriers.set(socket, carrier);
    this.enter(socket, "request");
    try {
      onSecure(socket);
      onHandshake("done");
    } catch {
      onHandshake("refused");
      socket.destroy();
    }
  }
}
