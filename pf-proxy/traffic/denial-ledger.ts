/**
 * Denials, folded: one entry for each target and reason, one structured log line when it first happens and then at most
 * one for each fold time, with the count since. A program that retries for ever fills neither log nor memory.
 */
import type { Log } from "../../core/log.ts";
import { MAX_REPORTED_DENIALS, type NetworkDenial } from "../../wire/network-report.ts";

const FOLD_MS = 10_000;
const MAX_TEXT = 300;

export interface Denial {
  readonly target: string;
  readonly reason: string;
  readonly allow: string | null;
}

interface FoldedDenial extends Denial {
  count: number;
  /** Of them, not in the log yet. */
  unlogged: number;
  readonly firstTime: number;
  lastTime: number;
  loggedTime: number;
}

export class DenialLedger {
  readonly #log: Log;
  readonly #epochMs: () => number;
  /** Oldest use first. */
  readonly #entries = new Map<string, FoldedDenial>();
  #omitted = 0;

  constructor(log: Log, epochMs: () => number) {
    this.#log = log;
    this.#epochMs = epochMs;
  }

  add(denial: Denial): void {
    const target = denial.target.slice(0, MAX_TEXT);
    const key = `${target}\n${denial.reason}`;
    const time = this.#epochMs();
    const entry = this.#entries.get(key) ?? this.#begin({ ...denial, target }, time);
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    entry.count += 1;
    entry.unlogged += 1;
    entry.lastTime = time;
    if (time - entry.loggedTime >= FOLD_MS) this.#write(entry, time);
  }

  /** Writes the lines that were held back; for a timer, and for the end. */
  flush(): void {
    const time = this.#epochMs();
    for (const entry of this.#entries.values())
      if (entry.unlogged > 0 && time - entry.loggedTime >= FOLD_MS) this.#write(entry, time);
  }

  /** Latest first. */
  list(): readonly NetworkDenial[] {
    return [...this.#entries.values()]
      .map(({ target, reason, count, firstTime, lastTime, allow }) => ({
        target,
        reason,
        count,
        firstTime,
        lastTime,
        allow,
      }))
      .reverse();
  }

  /** Entries that were given up for newer ones. */
  get omitted(): number {
    return this.#omitted;
  }

  #begin(denial: Denial, time: number): FoldedDenial {
    const [oldest] = this.#entries.keys();
    if (this.#entries.size >= MAX_REPORTED_DENIALS && oldest !== undefined) {
      this.#entries.delete(oldest);
      this.#omitted += 1;
    }
    return { ...denial, count: 0, unlogged: 0, firstTime: time, lastTime: time, loggedTime: -FOLD_MS };
  }

  #write(entry: FoldedDenial, time: number): void {
    const { target, reason, allow, unlogged: count } = entry;
    this.#log.warn("connection denied", { target, reason, count, ...(allow === null ? {} : { allow }) });
    entry.unlogged = 0;
    entry.loggedTime = time;
  }
}
