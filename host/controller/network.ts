/** The network of an enclave, both sides: what its runner tells, and what its gateway tells where it may. */
import { ControlClient } from "../../control/control-client.ts";
import { toKitError } from "../../core/errors.ts";
import { NetworkReportSchema } from "../../wire/network-schemas.ts";
import type { NetworkReport } from "../../wire/network-report.ts";
import { dialEnclave } from "./enclave-dialer.ts";
import { askRunner } from "./runner-client.ts";

export interface EnclaveNetwork {
  readonly host: NetworkReport;
  /** Null in production, where nobody outside is told. */
  readonly enclave: NetworkReport | null;
}

/** @throws E_HOST_NOT_FOUND, E_HOST_NOT_RUNNING, E_HOST_RUNNER */
export async function readNetwork(
  stateDir: string,
  name: string,
  signal: AbortSignal,
): Promise<EnclaveNetwork> {
  const enclave = await readEnclaveSide(stateDir, name, signal);
  const answer = await askRunner(stateDir, name, { method: "GET", path: "/network", signal });
  return { host: NetworkReportSchema.parse(answer), enclave };
}

async function readEnclaveSide(
  stateDir: string,
  name: string,
  signal: AbortSignal,
): Promise<NetworkReport | null> {
  try {
    return await new ControlClient(await dialEnclave(stateDir, name)).network(signal);
  } catch (error) {
    if (toKitError(error).code === "E_CONTROL_CLOSED") return null;
    throw error;
  }
}
