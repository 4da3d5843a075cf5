/** undici over attested connections: every connection of the agent is proven before a request goes out on it. */
import type { TLSSocket } from "node:tls";

import { Agent, type buildConnector } from "undici";

import { KitError } from "../../core/errors.ts";
import { DocumentVerifier } from "../verify/document-verifier.ts";
import { createNodeCrypto } from "../verify/node-crypto.ts";
import { type AttestedAddress, connectAttested } from "./attested-connection.ts";
import type { ClientPolicy } from "./client-policy.ts";

export interface AttestedAgentOptions {
  /** Ends connections that are being made. */
  readonly signal?: AbortSignal;
  /** How to reach an address; TCP unless given. What it gives belongs to the agent. */
  readonly dial?: (host: string, port: number, signal: AbortSignal) => Promise<AttestedAddress>;
  /** Keeps chains that it has verified; one of the agent's own unless given. */
  readonly verifier?: DocumentVerifier;
  /** Keep-alive connections are closed when idle for so long. */
  readonly idleMs?: number;
}

const HTTPS_PORT = 443;
const IDLE_MS = 4_000;
const MAX_CONNECTIONS = 64;
/** From the request to the head of its answer, and between two pieces of it. */
const ANSWER_TIMEOUT_MS = 60_000;
const MAX_HEAD_BYTES = 16 * 1024;

/**
 * For `dispatcher:` in undici's own fetch and request, https: alone. Whoever makes it ends it: `close()` lets requests end,
 * `destroy()` does not. Sessions are never resumed, so each connection proves itself anew; a redirect to another address
 * is such a connection, held to the same policy.
 * @throws (by requests, as `cause` of what undici throws) E_RA_URL, E_RA_CONNECT, E_EVIDENCE_*, E_UNMET_*
 */
export function attestedAgent(policy: ClientPolicy, options: AttestedAgentOptions = {}): Agent {
  const closing = new AbortController();
  const { signal = closing.signal, dial, idleMs = IDLE_MS } = options;
  const verifier = options.verifier ?? new DocumentVerifier(createNodeCrypto());
  const either = AbortSignal.any([closing.signal, signal]);
  const open = async ({ protocol, hostname, port }: buildConnector.Options): Promise<TLSSocket> => {
    const number = port === "" ? HTTPS_PORT : Number(port);
    const host = hostname.replace(/^\[(.*)\]$/, "$1");
    if (protocol !== "https:") {
      throw new KitError("E_RA_URL", `${protocol}//${hostname} shows no certificate`);
    }
    const to = (await dial?.(host, number, either)) ?? { host, port: number };
    const { socket } = await connectAttested({ to, policy, signal: either, servername: host, verifier });
    return socket;
  };
  return new ClosingAgent(closing, {
    connect: (target, callback) => void answer(open(target), callback),
    allowH2: false,
    connections: MAX_CONNECTIONS,
    keepAliveTimeout: idleMs,
    headersTimeout: ANSWER_TIMEOUT_MS,
    bodyTimeout: ANSWER_TIMEOUT_MS,
    maxHeaderSize: MAX_HEAD_BYTES,
  });
}

async function answer(opening: Promise<TLSSocket>, callback: buildConnector.Callback): Promise<void> {
  const result = await opening.catch((error: unknown) =>
    error instanceof Error ? error : new Error(String(error)),
  );
  if (result instanceof Error) callback(result, null);
  else callback(null, result);
}

/** An agent whose connections in the making end with it. */
class ClosingAgent extends Agent {
  readonly #closing: AbortController;

  constructor(closing: AbortController, options: Agent.Options) {
    super(options);
    this.#closing = closing;
  }

  override destroy(): Promise<void>;
  override destroy(error: Error | null): Promise<void>;
  override destroy(callback: () => void): void;
  override destroy(error: Error | null, callback: () => void): void;
  override destroy(first?: Error | null | (() => void), callback?: () => void): Promise<void> | void {
    this.#closing.abort();
    if (typeof first === "function") return super.destroy(first);
    return callback === undefined ? super.destroy(first ?? null) : super.destroy(first ?? null, callback);
  }
}
