import type { Toolkit } from "../controller/toolkit.ts";
import type { Terminal } from "../../core/terminal.ts";

/** What every command gets from the program. */
export interface CommandContext {
  readonly toolkit: Toolkit;
  readonly terminal: Terminal;
  /** Aborts at the first Ctrl-C. */
  readonly interrupted: AbortSignal;
}

/** Commands are made before the global options are read; they ask for the context when they run. */
export type GetContext = () => CommandContext;
