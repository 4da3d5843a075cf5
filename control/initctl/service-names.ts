import { KitError } from "../../core/errors.ts";
import { nearestName } from "../../core/nearest-name.ts";
import type { ServiceStatus } from "../../wire/control.ts";
import type { ControlClient } from "../control-client.ts";

/**
 * The named services in the order of the names, or all without any: refused before anything was done to one of them.
 * @throws E_SERVICE_UNKNOWN with the nearest name
 */
export function pickServices(
  services: readonly ServiceStatus[],
  names: readonly string[],
): readonly ServiceStatus[] {
  if (names.length === 0) return services;
  return [...new Set(names)].map((name) => {
    const found = services.find((service) => service.name === name);
    if (found !== undefined) return found;
    const known = services.map((service) => service.name);
    const near = nearestName(name, known);
    const suggestion = near === undefined ? "" : `; did you mean ${JSON.stringify(near)}?`;
    throw new KitError("E_SERVICE_UNKNOWN", `there is no service ${JSON.stringify(name)}${suggestion}`, {
      hint: `The enclave has: ${known.join(", ") || "no services"}.`,
    });
  });
}

/** Runs `work`; where it fails because there is no such service, the refusal gets the nearest name. */
export async function withServiceNames<T>(
  client: ControlClient,
  { name, signal }: { readonly name: string; readonly signal: AbortSignal },
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof KitError && error.code === "E_SERVICE_UNKNOWN")
      pickServices(await client.services(signal), [name]);
    throw error;
  }
}
