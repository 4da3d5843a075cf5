import type { Duplex } from "node:stream";

import { KitError } from "../../core/errors.ts";
import type { EgressStatus } from "../../wire/egress-preface.ts";
import type { DenyReason, EgressTarget } from "../policy/egress-policy.ts";
import { endWith } from "./last-answer.ts";

export type RefusalReason = DenyReason | EgressStatus;

/** What a client wants, and how it is told in its protocol. */
export interface ProxyRequest {
  readonly target: EgressTarget;
  /** Raw bytes follow. */
  accept(): void;
  /** Ends the connection. After accept there is no answer left: the connection is cut. */
  refuse(reason: RefusalReason): void;
}

/** The two answers in the protocol of a proxy. */
export interface ProxyAnswers {
  readonly accepted: Uint8Array;
  readonly refused: (reason: RefusalReason) => Uint8Array;
}

export function createProxyRequest(
  stream: Duplex,
  target: EgressTarget,
  { accepted, refused }: ProxyAnswers,
): ProxyRequest {
  let isAccepted = false;
  return {
    target,
    accept: () => {
      isAccepted = true;
      stream.write(accepted);
    },
    refuse: (reason) => {
      if (isAccepted) stream.destroy();
      else void endWith(stream, refused(reason));
    },
  };
}

/** What a client sent is no request that is carried out, and this is what it is told. Never leaves this folder. */
export class ProxyFault extends Error {
  readonly refusal: KitError;
  readonly answer: Uint8Array;

  constructor(refusal: KitError, answer: Uint8Array) {
    super(refusal.message, { cause: refusal });
    this.refusal = refusal;
    this.answer = answer;
  }
}

export function createFault(why: string, answer: Uint8Array): ProxyFault {
  return new ProxyFault(new KitError("E_EGRESS_PROXY", why), answer);
}

/** @throws the refusal of a fault, after the client has been told and let go; what else `read` throws */
export async function tellFaults(stream: Duplex, read: () => Promise<ProxyRequest>): Promise<ProxyRequest> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof ProxyFault)) throw error;
    await endWith(stream, error.answer);
    throw error.refusal;
  }
}
