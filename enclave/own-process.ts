/**
 * A process of the toolkit as a child of the supervisor: started, watched, started again.
 *
 * It gets descriptor 3, its end of a socket pair, and others that only it may have, for example the directory of vsock
 * sockets (local form). So it is not started through service-exec, which passes on nothing above 3.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { Duplex } from "node:stream";

import { backoffDelayMs, type BackoffPolicy } from "../core/backoff.ts";
import type { KitError } from "../core/errors.ts";
import type { OwnProcessName } from "../wire/own-processes.ts";
import type { Clock } from "./clock.ts";
import type { EventStore } from "./event-store.ts";
import type { LogStore, LogStream } from "./log-store.ts";
import { describeExit } from "./process-end.ts";

/** The socket pair to the supervisor. */
export const SUPERVISOR_CHANNEL_FD = 3;

export interface OwnCommand {
  readonly command: readonly string[];
  /** Absent: the supervisor's own, where only one uid exists. */
  readonly identity?: { readonly uid: number; readonly gid: number };
  /** The supervisor's descriptors that become 4 and up; null: nothing has that number. */
  readonly descriptors: readonly (number | null)[];
}

export interface OwnProcessOptions extends OwnCommand {
  readonly name: OwnProcessName;
  readonly clock: Clock;
  readonly random: () => number;
  readonly events: EventStore;
  readonly logs: LogStore;
  /** False: it says nothing about its life, and is not killed for that. */
  readonly isWatched?: boolean;
  /** Serves the socket of one process until it closes. */
  readonly serve: (stream: Duplex, onViolation: (error: KitError) => void) => void;
}

const BACKOFF: BackoffPolicy = { initialMs: 50, maximumMs: 5_000, jitter: 0.2 };
/** A process that lived so long starts the series of delays anew. */
const STEADY_MS = 10_000;
/** One that says nothing between so many checks is killed; they speak every two seconds. */
const CHECK_MS = 3_000;
const MAX_SILENT_CHECKS = 5;
/** Further checks until it has spoken for the first time: a minute in all. */
const STARTING_CHECKS = 15;
/** Time to be reaped after SIGKILL. */
const KILL_GRACE_MS = 2_000;

export class OwnProcess {
  readonly #options: OwnProcessOptions;
  #child: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #cancelRestart: () => void = () => undefined;
  #restarts = 0;
  #endsInRow = 0;
  #silentChecks = 0;
  #cancelCheck: (() => void) | undefined;
  #stopping = false;

  constructor(options: OwnProcessOptions) {
    this.#options = options;
  }

  /** It said that it does not hang. */
  feedWatchdog(): void {
    this.#silentChecks = 0;
    if (this.#cancelCheck === undefined) this.#checkLater();
  }

  status(): { readonly pid: number | null; readonly restarts: number } {
    return { pid: this.#child?.pid ?? null, restarts: this.#restarts };
  }

  start(): void {
    const startedMs = this.#options.clock.monotonicMs();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ended = promise;
    let child: ChildProcess;
    try {
      child = this.#spawn();
    } catch (error) {
      resolve();
      this.#afterEnd(`not executed: ${error instanceof Error ? error.message : String(error)}`, startedMs);
      return;
    }
    this.#child = child;
    if (this.#options.isWatched !== false) this.#watch();
    this.#capture(child, "stdout");
    this.#capture(child, "stderr");
    const end = (reason: string): void => {
      if (this.#child !== child) return;
      this.#child = undefined;
      resolve();
      this.#afterEnd(reason, startedMs);
    };
    child.once("exit", (code, signal) => end(describeExit(code, signal).reason));
    child.on("error", (error) => end(`not executed: ${error.message}`));
    const channel: unknown = child.stdio[SUPERVISOR_CHANNEL_FD];
    if (channel instanceof Duplex) {
      this.#options.serve(channel, (error) => this.#punish(child, error));
    }
  }

  /** SIGTERM, then SIGKILL after `graceMs`; it is not started again. Resolves even if it cannot be killed. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    this.#cancelRestart();
    const child = this.#child;
    if (child === undefined) return;
    child.kill("SIGTERM");
    const { promise: abandoned, resolve } = Promise.withResolvers<void>();
    const { clock } = this.#options;
    const cancels = [
      clock.after(graceMs, () => child.kill("SIGKILL")),
      clock.after(graceMs + KILL_GRACE_MS, resolve),
    ];
    await Promise.race([this.#ended, abandoned]);
    for (const cancel of cancels) cancel();
  }

  #spawn(): ChildProcess {
    const { command, identity, descriptors } = this.#options;
    const [program = "", ...rest] = command;
    return spawn(program, rest, {
      // Nothing is inherited: it has no setting but what the supervisor tells it.
      env: { PATH: "/usr/bin:/bin", HOME: "/", LANG: "C.UTF-8" },
      cwd: "/",
      stdio: ["ignore", "pipe", "pipe", "pipe", ...descriptors.map((fd) => fd ?? ("ignore" as const))],
      ...identity,
    });
  }

  #capture(child: ChildProcess, name: LogStream): void {
    const splitter = this.#options.logs.openStream(this.#options.name, name);
    const output = child[name];
    output?.on("data", (chunk: Buffer) => splitter.push(chunk)).on("error", () => output.destroy());
    output?.once("close", () => splitter.end());
  }

  #punish(child: ChildProcess, error: KitError): void {
    this.#options.events.add(null, `${this.#options.name} killed: ${error.message}`);
    child.kill("SIGKILL");
  }

  /** It may hang before it has said anything. */
  #watch(): void {
    this.#cancelCheck?.();
    this.#silentChecks = -STARTING_CHECKS;
    this.#checkLater();
  }

  /** Silence is counted in checks, not by the clock: a machine that was paused has not been silent (as in init). */
  #checkLater(): void {
    this.#cancelCheck = this.#options.clock.after(CHECK_MS, () => {
      this.#silentChecks += 1;
      if (this.#silentChecks < MAX_SILENT_CHECKS) return this.#checkLater();
      this.#cancelCheck = undefined;
      this.#options.events.add(null, `${this.#options.name} killed: it hangs`);
      this.#child?.kill("SIGKILL");
    });
  }

  #afterEnd(reason: string, startedMs: number): void {
    this.#cancelCheck?.();
    this.#cancelCheck = undefined;
    if (this.#stopping) return;
    const { clock, events, random } = this.#options;
    const wasSteady = clock.monotonicMs() - startedMs >= STEADY_MS;
    this.#endsInRow = wasSteady ? 1 : this.#endsInRow + 1;
    events.add(null, `${this.#options.name} ended: ${reason}`);
    this.#cancelRestart = clock.after(backoffDelayMs(BACKOFF, this.#endsInRow - 1, random), () => {
      this.#restarts += 1;
      this.start();
    });
  }
}
