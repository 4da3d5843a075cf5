/**
 * Health of one running process.
 *
 *   starting ─▶ healthy ◀─▶ unhealthy      also starting ─▶ unhealthy
 *
 * While starting, probes come quickly (from a few ms growing to the interval), so that a service is seen healthy as
 * soon as it is. Those failures count only once per interval and not within the start period: a service never becomes
 * unhealthy earlier than with one probe an interval.
 */
import type { HealthName } from "../wire/control.ts";
import type { Healthcheck } from "../wire/enclave-config.ts";
import type { Clock } from "./clock.ts";
import type { ProbeResult } from "./health-probe.ts";

export interface HealthMonitorOptions {
  readonly check: Healthcheck;
  readonly clock: Clock;
  readonly probe: (signal: AbortSignal) => Promise<ProbeResult>;
  /** Called for each change. */
  readonly onChange: (health: HealthName, detail: string | null) => void;
}

/** First delay of the quick probes, in ms: starting a program costs more than opening a connection. */
const FIRST_DELAY_MS = { exec: 100, http: 20, tcp: 20 } as const;
const DELAY_GROWTH = 1.5;

/** Probes until `signal` aborts; resolves then. */
export async function monitorHealth(options: HealthMonitorOptions, signal: AbortSignal): Promise<void> {
  const { check, clock, probe, onChange } = options;
  const counter = new FailureCounter(check, clock);
  let health: HealthName = "starting";
  let delayMs = Math.min(check.intervalMs, FIRST_DELAY_MS[check.test.kind]);
  while (!signal.aborted) {
    await pause(clock, delayMs, signal);
    if (signal.aborted) return;
    const result = await probe(signal);
    if (signal.aborted) return;
    const next = counter.judge(result.healthy, health);
    if (next !== health || !result.healthy) onChange(next, result.healthy ? null : result.detail);
    health = next;
    delayMs = health === "starting" ? Math.min(check.intervalMs, delayMs * DELAY_GROWTH) : check.intervalMs;
  }
}

class FailureCounter {
  readonly #check: Healthcheck;
  readonly #clock: Clock;
  #failures = 0;
  /** Failures until then do not count. */
  #graceUntilMs: number;

  constructor(check: Healthcheck, clock: Clock) {
    this.#check = check;
    this.#clock = clock;
    this.#graceUntilMs = clock.monotonicMs() + Math.max(check.startPeriodMs, check.intervalMs);
  }

  judge(succeeded: boolean, health: HealthName): HealthName {
    if (succeeded) {
      this.#failures = 0;
      return "healthy";
    }
    const nowMs = this.#clock.monotonicMs();
    if (health === "starting" && nowMs < this.#graceUntilMs) return health;
    this.#graceUntilMs = nowMs + this.#check.intervalMs;
    this.#failures += 1;
    return this.#failures >= this.#check.retries ? "unhealthy" : health;
  }
}

async function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const cancel = clock.after(delayMs, resolve);
  const abort = (): void => resolve();
  signal.addEventListener("abort", abort, { once: true });
  await promise;
  signal.removeEventListener("abort", abort);
  cancel();
}
