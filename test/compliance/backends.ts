/** The backends that the suite runs on, and how their machines look from the host. */
import { PARTS } from "../e2e/enclave-processes.ts";

export type BackendName = "local" | "qemu";

export const BACKENDS: readonly BackendName[] = ["local", "qemu"];

/** Command line of the process that is the machine, below the runner: without it there is no enclave. */
export const MACHINE_PROCESS: Readonly<Record<BackendName, RegExp>> = {
  local: PARTS.launcher,
  qemu: /qemu-system-/,
};
