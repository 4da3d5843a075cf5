import type { EgressStatus } from "../../wire/egress-preface.ts";
import type { DenyReason, EgressTarget } from "../policy/egress-policy.ts";

export type RefusalReason = DenyReason | EgressStatus;

/** What a client wants, and how it is told in its protocol. */
export interface ProxyRequest {
  readonly target: EgressTarget;
  /** Raw bytes follow. */
  accept(): void;
  /** Ends the connection. */
  refuse(reason: RefusalReason): void;
}
