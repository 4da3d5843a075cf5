import type { EgressRule } from "../../wire/egress-policy.ts";
import type { EntryLimits } from "../traffic/traffic-ledger.ts";

/** Unless a rule says otherwise; longer than the keep-alive of any common client. */
const IDLE_TIMEOUT_MS = 3_600_000;

export function limitsOf({ idleTimeoutMs, totalTimeoutMs, maxBytes }: EgressRule): EntryLimits {
  return {
    idleTimeoutMs: idleTimeoutMs ?? IDLE_TIMEOUT_MS,
    ...(totalTimeoutMs === undefined ? {} : { totalTimeoutMs }),
    ...(maxBytes === undefined ? {} : { maxBytes }),
  };
}
