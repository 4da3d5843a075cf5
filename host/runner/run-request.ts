import type { RegisterSource } from "../attestation/image-registers.ts";
import type { MachinePlan } from "../backends/machine-plan.ts";
import type { EgressConfig } from "../../wire/egress-policy.ts";
import type { PortSpec } from "../config/enclave-spec.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";

/** What a runner is told to run: written by `up` next to the record, read once by the runner. */
export interface RunRequest {
  /** The record as it is before anything happened. */
  readonly record: EnclaveRecord;
  readonly machine: MachinePlan;
  readonly ports: readonly PortSpec[];
  /** The host's own copy of the rules. */
  readonly egress: EgressConfig;
  /** Where the host publishes the attestation server; null: nowhere. */
  readonly attestationPort: Omit<PortSpec, "servicePort"> | null;
  /** What the machine is measured to be. */
  readonly registers: RegisterSource;
  /** Folder of the development authority. */
  readonly authority: string;
  /** Time that an ordered stop may take, in ms. */
  readonly stopTimeoutMs: number;
  /** The runner ends when the command that started it does. */
  readonly foreground: boolean;
}

/** Longest line that is said to a runner over its channel, newline included. */
export const MAX_STOP_REQUEST_BYTES = 4096;
const MAX_REASON = 1000;

/** What the command that started a runner may say to it: one line, `stop` or `stop REASON`. */
export function encodeStopRequest(reason = ""): string {
  const plain = reason.replaceAll(/\s+/g, " ").trim().slice(0, MAX_REASON).trim();
  return plain === "" ? "stop\n" : `stop ${plain}\n`;
}

/** The reason of a stop request (without its newline): undefined where it has none. */
export function decodeStopRequest(line: string): string | undefined {
  return line.replace(/^stop ?/, "") || undefined;
}
