import type { RegisterSource } from "../../attestation/image-registers.ts";
import type { BuiltImage } from "../../../rbuilds/built-image.ts";
import type { MachinePlan } from "../../backends/machine-plan.ts";
import type { EnclaveSpec } from "../../config/enclave-spec.ts";

export interface AssembleOptions {
  readonly spec: EnclaveSpec;
  readonly signal: AbortSignal;
  readonly onProgress: (step: string) => void;
}

export interface PrepareOptions extends AssembleOptions {
  /** Of the enclave. */
  readonly name: string;
  /** On the hardware: readable console, and measurements of zeros. */
  readonly debug: boolean;
}

/** Disposed of once it is placed, or is not to be. */
export interface PreparedMachine extends AsyncDisposable {
  readonly image: BuiltImage;
  /** What the machine is measured to be. */
  readonly registers: RegisterSource;
  readonly accelerator: "kvm" | "tcg" | null;
  /** Puts what the runner will own into the enclave's directory. */
  place(directory: string): Promise<MachinePlan>;
}
