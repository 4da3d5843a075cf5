import { KitError } from "../../core/errors.ts";

/** What ended a relay, if it was a decision of ours: `inspection: ...`, `limit: ...`. */
export function describeRefusal(cause: unknown): string | undefined {
  if (!(cause instanceof KitError)) return undefined;
  if (cause.code === "E_EGRESS_INSPECTION") return `inspection: ${cause.message}`;
  return cause.code === "E_EGRESS_LIMIT" ? `limit: ${cause.message}` : undefined;
}
