import type { Terminal } from "../../core/terminal.ts";
import type { ReloadOverrides } from "../../wire/control.ts";
import type { ControlClient } from "../control-client.ts";

/** What every command of initctl gets from its program. */
export interface InitctlContext {
  readonly terminal: Terminal;
  /** Aborts at the first Ctrl-C. */
  readonly interrupted: AbortSignal;
  readonly connect: () => Promise<ControlClient>;
  /**
   * The services and egress rules that the enclave.yaml of the enclave now describes, as development overrides. Absent
   * inside, where there is nothing but the image's own file.
   */
  readonly computeOverrides?: (signal: AbortSignal) => Promise<ReloadOverrides>;
  /** Gives the host's side its copy of the rules; undefined: the image's own. Answers how to take them back. */
  readonly takeEgress?: (egress: unknown, signal: AbortSignal) => Promise<() => Promise<void>>;
}

/** Commands are made before the global options are read; they ask for the context when they run. */
export type GetInitctlContext = () => InitctlContext;
