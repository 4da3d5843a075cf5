import type { LocalPlan } from "../backends/local/local-plan.ts";
import type { PortSpec } from "../config/enclave-spec.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";

/** What a runner is told to run: written by `up` next to the record, read once by the runner. */
export interface RunRequest {
  /** The record as it is before anything happened. */
  readonly record: EnclaveRecord;
  readonly plan: LocalPlan;
  /** Path of the launcher program. */
  readonly launcher: string;
  readonly ports: readonly PortSpec[];
  /** Time that an ordered stop may take, in ms. */
  readonly stopTimeoutMs: number;
  /** The runner ends when the command that started it does. */
  readonly foreground: boolean;
}
