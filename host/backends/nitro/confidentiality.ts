import { KitError } from "../../../core/errors.ts";

/**
 * Debug mode makes PCR0, 1, 2 and 8 zero and opens the console to this host, so nothing that a production image promises
 * would hold. Not even an operator's word allows it: whoever talks to the enclave would be deceived.
 * @throws E_NITRO_DEBUG
 */
export function refuseDebugOfProduction(mode: "development" | "production", debug: boolean): void {
  if (mode !== "production" || !debug) return;
  throw new KitError("E_NITRO_DEBUG", "an image with mode: production is not started in debug mode");
}
