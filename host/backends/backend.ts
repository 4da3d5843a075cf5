/**
 * The contract between a runner and whatever an enclave runs on. Provisional until a second backend has passed its
 * compliance suite.
 *
 * A machine goes through its life once: opened (nothing runs yet, handlers can be set), started, exited. Closing it
 * ends it in any state and leaves nothing behind.
 */
import type { Duplex, Readable } from "node:stream";

import type { KitError } from "../../core/errors.ts";
import type { LimitStatus } from "../../wire/control.ts";

/** How the machine's process ended. */
export interface MachineExit {
  /** Exit status, or null when killed by `signal`. */
  readonly status: number | null;
  /** Name of the signal that killed the machine's init or its process. */
  readonly signal: string | null;
  /** What the backend knows of the reason, where init did not say one. */
  readonly error?: KitError;
}

/** A connection over vsock: half-open connections allowed, and paused until it is read. */
export type MachineSocket = Duplex;

export interface Machine extends AsyncDisposable {
  /** What the whole machine may use, and whether that holds. */
  readonly limits: readonly LimitStatus[];
  /** Hears connections that the enclave opens to `port` of the host. Call before `start`: init dials at once. */
  onConnect(port: number, handler: (socket: MachineSocket) => void): Promise<void>;
  /** @throws E_BACKEND_LAUNCH and its more exact relatives. */
  start(signal: AbortSignal): Promise<void>;
  /** Connects to `port` of the enclave. @throws E_BACKEND_CONNECT, E_DEADLINE */
  connect(port: number, signal: AbortSignal): Promise<MachineSocket>;
  /** What the machine prints on its console, from the start. */
  readonly console: Readable;
  /** Settles when the machine is gone; never rejects. Pending until it is started. */
  readonly exited: Promise<MachineExit>;
  /** Asks the machine to end in order; after `graceMs` it is killed. Resolves once it is gone. */
  stop(graceMs: number): Promise<void>;
}
