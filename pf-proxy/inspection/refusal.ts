import { KitError } from "../../core/errors.ts";

/** @param why about "it", the connection */
export function refuseStream(why: string): KitError {
  return new KitError("E_EGRESS_INSPECTION", why);
}
