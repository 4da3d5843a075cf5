/**
 * TLS to a peer that is proven before it hears a word. The order is the whole point:
 *
 *   handshake -> certificate -> document in it -> policy -> document's key = this connection's key -> the caller's bytes
 *
 * The certificate's own chain, names and dates are not looked at, because they say nothing; so the library's check of them
 * is off, and nothing gets a socket but by `connectAttested`.
 */
import { once } from "node:events";
import { isIP } from "node:net";
import type { Duplex } from "node:stream";
import { connect, type ConnectionOptions, type TLSSocket } from "node:tls";

import { Deadline } from "../../core/deadline.ts";
import { KitError, toKitError } from "../../core/errors.ts";
import { RA_TLS_ALPN } from "../../wire/ra-tls.ts";
import { type AuthenticDocument, DocumentVerifier } from "../verify/document-verifier.ts";
import { createNodeCrypto } from "../verify/node-crypto.ts";
import type { ClientPolicy } from "./client-policy.ts";
import { readEvidence } from "./peer-evidence.ts";

export interface AttestedConnection {
  readonly socket: TLSSocket;
  readonly document: AuthenticDocument;
  /** DER of the key that the peer has and the document names. */
  readonly spki: Uint8Array;
}

export type AttestedAddress =
  /** An open connection, which this one takes over, also when it fails. */
  { readonly socket: Duplex } | { readonly host: string; readonly port: number };

export interface ConnectAttestedOptions {
  readonly to: AttestedAddress;
  readonly policy: ClientPolicy;
  readonly signal: AbortSignal;
  /** Sent in clear in the handshake; it is not part of what is proven. */
  readonly servername?: string;
  /** Keeps what it has verified for the next connection. */
  readonly verifier?: DocumentVerifier;
}

const CONNECT_TIMEOUT_MS = 10_000;

/** @returns a socket over which nothing was sent yet but the handshake
 * @throws E_RA_CONNECT, E_EVIDENCE_*, E_UNMET_*, E_DEADLINE, E_CANCELLED; the connection is destroyed then */
export async function connectAttested(options: ConnectAttestedOptions): Promise<AttestedConnection> {
  using deadline = new Deadline(options.signal, CONNECT_TIMEOUT_MS);
  const { signal } = deadline;
  const socket = connect(describeConnection(options));
  // Errors come as rejections here, and after that as `close`; the owner may listen to both.
  socket.on("error", () => undefined);
  const cut = (): void => void socket.destroy();
  signal.addEventListener("abort", cut, { once: true });
  try {
    signal.throwIfAborted();
    await finishHandshake(socket, signal);
    const proof = await provePeer(socket, options);
    signal.throwIfAborted();
    if (socket.destroyed) throw new KitError("E_RA_CONNECT", "the peer closed the connection");
    return { socket, ...proof };
  } catch (error) {
    socket.destroy();
    if ("socket" in options.to) options.to.socket.destroy();
    throw signal.aborted ? toKitError(signal.reason) : toKitError(error);
  } finally {
    signal.removeEventListener("abort", cut);
  }
}

function describeConnection({ to, policy, servername }: ConnectAttestedOptions): ConnectionOptions {
  const name = servername ?? ("host" in to ? to.host : "");
  return {
    ...to,
    ...policy.identity,
    ...(name === "" || isIP(name) !== 0 ? {} : { servername: name }),
    minVersion: "TLSv1.3",
    ALPNProtocols: [RA_TLS_ALPN],
    // Only because `provePeer` follows, and nothing is sent before.
    rejectUnauthorized: false,
  };
}

async function finishHandshake(socket: TLSSocket, signal: AbortSignal): Promise<void> {
  const { promise: closed, reject } = Promise.withResolvers<never>();
  const refuse = (cause?: unknown): void => reject(explain(cause));
  socket.once("error", refuse).once("close", refuse);
  try {
    await Promise.race([once(socket, "secureConnect", { signal }), closed]);
  } finally {
    socket.off("error", refuse).off("close", refuse);
    closed.catch(() => undefined);
  }
}

function explain(cause: unknown): KitError {
  const reason = cause instanceof Error ? cause.message.split("\n", 1)[0] : "it was closed";
  return new KitError("E_RA_CONNECT", `no TLS connection: ${reason}`, { cause });
}

/** What the peer has shown, against the policy. @throws E_EVIDENCE_*, E_UNMET_* */
async function provePeer(
  socket: TLSSocket,
  { policy, verifier }: ConnectAttestedOptions,
): Promise<Omit<AttestedConnection, "socket">> {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) throw new KitError("E_EVIDENCE_MISSING", "the peer shows no certificate");
  // The key as the TLS library has it, not as another parser reads it: that is the one the peer has proven to have.
  const spki = new Uint8Array(certificate.publicKey.export({ type: "spki", format: "der" }));
  const { clock, identity: _shown, ...wanted } = policy;
  const document = await (verifier ?? new DocumentVerifier(createNodeCrypto())).verify(
    readEvidence(certificate.raw),
    { ...wanted, publicKey: spki, purpose: { name: "ra-tls", data: spki } },
    (clock ?? Date.now)(),
  );
  return { document, spki };
}
