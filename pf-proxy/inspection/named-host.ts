import type { EgressTarget } from "../policy/egress-policy.ts";
import { canonicalHostName } from "../policy/host-name.ts";

/** Whether a name in the client's bytes is the one that it dialled. @param text ASCII, without a port */
export function namesTarget(text: string, target: EgressTarget): boolean {
  try {
    return canonicalHostName(text) === target.host;
  } catch {
    return false;
  }
}
