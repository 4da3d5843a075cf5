import { fetch, type RequestInfo, type RequestInit, type Response } from "undici";

import { KitError } from "../../core/errors.ts";
import type { DocumentVerifier } from "../verify/document-verifier.ts";
import { attestedAgent, type AttestedAgentOptions } from "./attested-agent.ts";
import type { ClientPolicy } from "./client-policy.ts";

export interface AttestedRequestInit extends Omit<RequestInit, "dispatcher" | "signal"> {
  readonly signal?: AbortSignal;
  /** How to reach the address; TCP unless given. */
  readonly dial?: NonNullable<AttestedAgentOptions["dial"]>;
  /** Shared by requests, it verifies a certificate chain once. */
  readonly verifier?: DocumentVerifier;
}

/**
 * fetch to a peer that proves itself against `policy` before a byte of the request leaves; the connection is its own and
 * ends with the answer. For many requests make an `attestedAgent`.
 * A redirect is an error unless `init.redirect` says otherwise: one that is followed leads to another connection, whose
 * peer must meet the same policy, and never to plain http.
 * @param url https: alone
 * @returns the answer; its body has to be read or cancelled, as with every fetch
 * @throws E_RA_URL, E_RA_CONNECT, E_EVIDENCE_*, E_UNMET_*, E_DEADLINE, E_CANCELLED
 */
export async function attestedFetch(
  url: string | URL,
  policy: ClientPolicy,
  init: AttestedRequestInit = {},
): Promise<Response> {
  const { dial, signal, verifier, ...rest } = init;
  if (!URL.canParse(url) || new URL(url).protocol !== "https:") {
    throw new KitError("E_RA_URL", `${JSON.stringify(String(url).slice(0, 128))} is no https: address`);
  }
  const agent = attestedAgent(policy, {
    ...(signal === undefined ? {} : { signal }),
    ...(dial === undefined ? {} : { dial }),
    ...(verifier === undefined ? {} : { verifier }),
  });
  const target: RequestInfo = url;
  try {
    const response = await fetch(target, {
      redirect: "error",
      ...rest,
      ...(signal === undefined ? {} : { signal }),
      dispatcher: agent,
    });
    // Ends with the body, which its reader may take time over.
    void agent.close();
    return response;
  } catch (error) {
    await agent.destroy();
    throw findCause(error);
  }
}

/** fetch says "fetch failed", and why one or two levels below. */
function findCause(error: unknown): unknown {
  for (let at = error, depth = 0; at instanceof Error && depth < 4; at = at.cause, depth += 1) {
    if (at instanceof KitError) return at;
    const isOfConnection = at !== error && "code" in at && typeof at.code === "string";
    if (isOfConnection)
      return new KitError("E_RA_CONNECT", `the request failed: ${at.message}`, { cause: error });
  }
  return error;
}
