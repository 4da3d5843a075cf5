/** Who talks to whom through one side of the proxy, now and since the start: the figures of `pipeline net`. */
import type { Log } from "../../core/log.ts";
import {
  MAX_REPORTED_CONNECTIONS,
  type NetworkConnection,
  type NetworkListener,
  type NetworkReport,
  type TrafficCounts,
} from "../../wire/network-report.ts";
import { type Denial, DenialLedger } from "./denial-ledger.ts";

type Counts = { -readonly [Key in keyof TrafficCounts]: TrafficCounts[Key] };

export interface TrafficLedgerOptions {
  readonly side: "enclave" | "host";
  readonly log: Log;
  readonly epochMs: () => number;
  readonly monotonicMs: () => number;
}

export interface EntryLimits {
  readonly idleTimeoutMs: number;
  readonly totalTimeoutMs?: number;
  readonly maxBytes?: number;
}

/** One connection. Its owner closes it exactly once. */
export interface TrafficEntry {
  open: () => void;
  addOut: (sizeBytes: number) => void;
  addIn: (sizeBytes: number) => void;
  /** @param refused it never came to be */
  close: (refused?: boolean) => void;
}

interface Live {
  readonly direction: "ingress" | "egress";
  readonly peer: string;
  readonly startedMs: number;
  state: "opening" | "open";
  lastMs: number;
  bytesOut: number;
  bytesIn: number;
  readonly limits: EntryLimits | undefined;
  readonly onLimit: (limit: string) => void;
}

export interface OpenEntry {
  readonly direction: "ingress" | "egress";
  readonly peer: string;
  /** In the words of the YAML. */
  readonly rule?: string;
  readonly limits?: EntryLimits;
  /** Called when a limit is broken, perhaps more than once. */
  readonly onLimit?: (limit: string) => void;
}

/** How often deadlines are looked at. */
const SWEEP_MS = 250;
const NO_COUNTS: TrafficCounts = { live: 0, total: 0, refused: 0, bytesOut: 0, bytesIn: 0 };

export class TrafficLedger implements Disposable {
  readonly #options: TrafficLedgerOptions;
  readonly #totals = { ingress: { ...NO_COUNTS }, egress: { ...NO_COUNTS } };
  readonly #rules = new Map<string, Counts>();
  readonly #live = new Set<Live>();
  readonly #denials: DenialLedger;
  readonly #sweeper: NodeJS.Timeout;

  constructor(options: TrafficLedgerOptions) {
    this.#options = options;
    this.#denials = new DenialLedger(options.log, options.epochMs);
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS).unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#sweeper);
    this.#denials.flush();
  }

  /** A line for each rule, also one that nobody has used. */
  nameRules(rules: readonly string[]): void {
    const before = new Map(this.#rules);
    this.#rules.clear();
    for (const rule of rules) this.#rules.set(rule, before.get(rule) ?? { ...NO_COUNTS });
  }

  open({ direction, peer, rule, limits, onLimit = () => undefined }: OpenEntry): TrafficEntry {
    const now = this.#options.monotonicMs();
    const live: Live = {
      direction,
      peer,
      state: "opening",
      startedMs: now,
      lastMs: now,
      bytesOut: 0,
      bytesIn: 0,
      limits,
      onLimit,
    };
    const counted = [this.#totals[direction], ...this.#countsOf(rule)];
    for (const counts of counted) {
      counts.live += 1;
      counts.total += 1;
    }
    this.#live.add(live);
    return {
      open: () => (live.state = "open"),
      addOut: (sizeBytes) => this.#add(live, counted, "bytesOut", sizeBytes),
      addIn: (sizeBytes) => this.#add(live, counted, "bytesIn", sizeBytes),
      close: (refused = false) => {
        if (!this.#live.delete(live)) return;
        for (const counts of counted) {
          counts.live -= 1;
          if (refused) counts.refused += 1;
        }
      },
    };
  }

  deny(denial: Denial): void {
    this.#denials.add(denial);
  }

  /** Of both directions together. */
  get totals(): { readonly ingress: TrafficCounts; readonly egress: TrafficCounts } {
    return { ingress: { ...this.#totals.ingress }, egress: { ...this.#totals.egress } };
  }

  report(redirection: NetworkReport["redirection"], listeners: readonly NetworkListener[]): NetworkReport {
    const now = this.#options.monotonicMs();
    const shown = [...this.#live].slice(0, MAX_REPORTED_CONNECTIONS);
    return {
      side: this.#options.side,
      redirection,
      listeners,
      ...this.totals,
      rules: [...this.#rules].map(([rule, counts]) => ({ rule, ...counts })),
      connections: shown.map((live) => toConnection(live, now)),
      connectionsOmitted: this.#live.size - shown.length,
      denials: this.#denials.list(),
      denialsOmitted: this.#denials.omitted,
    };
  }

  #countsOf(rule: string | undefined): Counts[] {
    const counts = rule === undefined ? undefined : this.#rules.get(rule);
    return counts === undefined ? [] : [counts];
  }

  #add(live: Live, counted: readonly Counts[], key: "bytesOut" | "bytesIn", sizeBytes: number): void {
    live[key] += sizeBytes;
    live.lastMs = this.#options.monotonicMs();
    for (const counts of counted) counts[key] += sizeBytes;
    const maximum = live.limits?.maxBytes;
    if (maximum !== undefined && live.bytesOut + live.bytesIn > maximum)
      live.onLimit(`more than ${maximum} bytes`);
  }

  #sweep(): void {
    this.#denials.flush();
    const now = this.#options.monotonicMs();
    for (const { limits, startedMs, lastMs, onLimit } of this.#live) {
      if (limits === undefined) continue;
      const { idleTimeoutMs, totalTimeoutMs = Number.POSITIVE_INFINITY } = limits;
      if (now - lastMs > idleTimeoutMs) onLimit(`idle for ${idleTimeoutMs} ms`);
      else if (now - startedMs > totalTimeoutMs) onLimit(`open for ${totalTimeoutMs} ms`);
    }
  }
}

function toConnection(live: Live, nowMs: number): NetworkConnection {
  const { direction, peer, state, startedMs, lastMs, bytesOut, bytesIn } = live;
  return { direction, peer, state, ageMs: nowMs - startedMs, idleMs: nowMs - lastMs, bytesOut, bytesIn };
}
