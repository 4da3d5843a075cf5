/**
 * What one run of a service has used, and which of its limits it broke.
 *
 * A reason is exact or it is not given: it comes from the counters of the service's cgroup, or from an act of the
 * supervisor, and never from the status with which a process ended. The first cause counts.
 */
import type { ServiceLimits } from "../wire/enclave-config.ts";
import type { Clock } from "./clock.ts";
import type { ProcessEnd } from "./process-end.ts";

/** Since the cgroup was made. */
export interface RunCounters {
  /** Processes killed because memory ran out. */
  readonly oomKills: number;
  /** Forks refused because of the limit on processes. */
  readonly pidsRefused: number;
  /** CPU time, or null where the machine does not count it. */
  readonly cpuUsec: number | null;
}

export type Excess =
  "memory_exceeded" | "pids_exceeded" | "cpu_exceeded" | "wall_clock_exceeded" | "output_exceeded";

export interface RunAccountOptions {
  readonly limits: ServiceLimits;
  readonly clock: Clock;
  /** Absent where there are no cgroups. */
  readonly readCounters: (() => Promise<RunCounters>) | undefined;
  /** Counters when the run began. */
  readonly before: RunCounters;
  /** Told once for each kind. Those that end the run are followed by `kill`. */
  readonly onExcess: (excess: Excess) => void;
  readonly kill: () => void;
}

export const NO_COUNTERS: RunCounters = { oomKills: 0, pidsRefused: 0, cpuUsec: 0 };

/** CPU time is a budget that runs out while nobody looks; memory and processes are counted by the kernel. */
const CPU_POLL_MS = 50;
const POLL_MS = 250;

export class RunAccount {
  readonly #options: RunAccountOptions;
  readonly #seen = new Set<Excess>();
  #deadly: Excess | undefined;
  #outputBytes = 0;
  #cancelDeadline: () => void = () => undefined;
  #cancelPoll: () => void = () => undefined;
  #isOver = false;

  constructor(options: RunAccountOptions) {
    this.#options = options;
    const { limits, clock } = options;
    if (limits.runTimeMs !== undefined) {
      this.#cancelDeadline = clock.after(limits.runTimeMs, () => this.#end("wall_clock_exceeded"));
    }
    const isPolled = [limits.memoryBytes, limits.pids, limits.cpuTimeMs].some((limit) => limit !== undefined);
    if (isPolled && options.readCounters !== undefined) this.#pollLater();
  }

  get outputBytes(): number {
    return this.#outputBytes;
  }

  countOutput(bytes: number): void {
    this.#outputBytes += bytes;
    const { outputBytes } = this.#options.limits;
    if (outputBytes !== undefined && this.#outputBytes > outputBytes) this.#end("output_exceeded");
  }

  /**
   * The process is reaped and nothing of the run is left.
   * @returns its end with the exact reason, and the counters as the next run finds them.
   */
  async conclude(end: ProcessEnd): Promise<{ readonly end: ProcessEnd; readonly counters: RunCounters }> {
    this.#close();
    const counters = (await this.#read()) ?? this.#options.before;
    const excess = this.#deadly ?? this.#excessOf(counters, end);
    return { end: excess === undefined ? end : { reason: excess, clean: false }, counters };
  }

  #excessOf(counters: RunCounters, end: ProcessEnd): Excess | undefined {
    const { before } = this.#options;
    if (end.clean) return undefined;
    if (counters.oomKills > before.oomKills) return "memory_exceeded";
    return counters.pidsRefused > before.pidsRefused ? "pids_exceeded" : undefined;
  }

  #pollLater(): void {
    const { limits, clock } = this.#options;
    const delayMs = limits.cpuTimeMs === undefined ? POLL_MS : CPU_POLL_MS;
    this.#cancelPoll = clock.after(delayMs, () => void this.#poll());
  }

  async #poll(): Promise<void> {
    const counters = await this.#read();
    if (this.#isOver || counters === undefined) return;
    const { before, limits } = this.#options;
    const usedUsec = (counters.cpuUsec ?? 0) - (before.cpuUsec ?? 0);
    if (counters.oomKills > before.oomKills) this.#end("memory_exceeded");
    if (limits.cpuTimeMs !== undefined && usedUsec > limits.cpuTimeMs * 1000) this.#end("cpu_exceeded");
    // A refused fork is an error to the program, which may live with it.
    if (counters.pidsRefused > before.pidsRefused) this.#notice("pids_exceeded");
    this.#pollLater();
  }

  async #read(): Promise<RunCounters | undefined> {
    return await this.#options.readCounters?.().catch(() => undefined);
  }

  #end(excess: Excess): void {
    if (this.#isOver || this.#deadly !== undefined) return;
    this.#deadly = excess;
    this.#notice(excess);
    this.#options.kill();
  }

  #notice(excess: Excess): void {
    if (this.#seen.has(excess)) return;
    this.#seen.add(excess);
    this.#options.onExcess(excess);
  }

  #close(): void {
    this.#isOver = true;
    this.#cancelDeadline();
    this.#cancelPoll();
  }
}
