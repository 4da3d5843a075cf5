/** What is known of an enclave: written by its runner, read by everything else, and what `status --json` prints. */
import type { ErrorJson } from "../../core/errors.ts";
import type { AttestationStatus, HealthName, LimitStatus, ServiceStateName } from "../../wire/control.ts";
import type { BackendName } from "../backends/machine-plan.ts";
import type { PortSpec } from "../config/enclave-spec.ts";

export const RECORD_VERSION = 1;

export type EnclaveState =
  | "starting" // not everything is healthy yet
  | "running" // every service runs, healthy where it has a check, or has done its work
  | "unhealthy" // it was running, and a service is not any more
  | "stopping"
  | "stopped" // in order, as asked
  | "failed"; // ended, or never came up, for `reason`

export interface ServiceRecord {
  readonly name: string;
  /** "unknown" until the enclave tells, and always where its control API is closed. */
  readonly state: ServiceStateName | "unknown";
  readonly pid: number | null;
  readonly restarts: number;
  readonly health: HealthName;
  readonly reason: string | null;
  /** Why it is not kept apart from the others, null if it is. */
  readonly notIsolated: string | null;
  readonly limits: readonly LimitStatus[];
}

export interface EnclaveRecord {
  readonly version: typeof RECORD_VERSION;
  readonly name: string;
  readonly state: EnclaveState;
  readonly reason: string | null;
  readonly backend: BackendName;
  /** What runs the guest's instructions; null where there is no guest. */
  readonly accelerator: "kvm" | "tcg" | null;
  /** Started so that the hardware does not protect it. */
  readonly debug: boolean;
  readonly mode: "development" | "production";
  readonly attestation: "nitro" | "development";
  /** False where all services share one user id; null until the enclave tells. */
  readonly isolated: boolean | null;
  readonly runner: { readonly pid: number | null; readonly startTicks: number | null };
  readonly ports: readonly PortSpec[];
  /** Where the attestation server is published; null: nowhere. */
  readonly attestationPort: Omit<PortSpec, "servicePort"> | null;
  /** Of the whole enclave. */
  readonly limits: readonly LimitStatus[];
  readonly services: readonly ServiceRecord[];
  readonly supervisor: { readonly restarts: number };
  readonly gateway: { readonly restarts: number };
  /** Null until the enclave tells, and always where its control API is closed. */
  readonly attestationServer: AttestationStatus | null;
  /** Digest of the image's manifest. */
  readonly image: string;
  /** Digest of its files without the configuration, which a reload may replace. */
  readonly imageFiles: string;
  /** True while development overrides are in force instead of the image's own services. */
  readonly overridden: boolean;
  /** The enclave.yaml. */
  readonly file: string;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  /** The refusal that ended it, where one did. */
  readonly error: ErrorJson | null;
}
