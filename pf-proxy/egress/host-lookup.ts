/**
 * Names to addresses on the host, by the system's own means (hosts file, DNS). The system's lookups occupy threads of
 * the process, so few go on at a time; what was found stays for a moment, so that a burst of connections asks once.
 */
import { lookup } from "node:dns/promises";

import { isErrno, KitError } from "../../core/errors.ts";

/** Node has four threads, which files need too. */
const AT_ONCE = 2;
const MAX_WAITING = 256;
const MAX_KEPT = 1024;
const KEEP_MS = 5_000;
const KEEP_FAILURE_MS = 1_000;
const MAX_ADDRESSES = 32;

export type LookupAll = (name: string) => Promise<readonly string[]>;

interface Kept {
  readonly addresses: readonly string[];
  readonly untilMs: number;
}

export class HostLookup {
  readonly #lookupAll: LookupAll;
  readonly #monotonicMs: () => number;
  readonly #kept = new Map<string, Kept>();
  readonly #asking = new Map<string, Promise<readonly string[]>>();
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(monotonicMs: () => number, lookupAll: LookupAll = lookupBySystem) {
    this.#monotonicMs = monotonicMs;
    this.#lookupAll = lookupAll;
  }

  /** Empty: the name has none. @throws E_EGRESS_LIMIT if too many ask, the signal's reason */
  async find(name: string, signal: AbortSignal): Promise<readonly string[]> {
    const kept = this.#kept.get(name);
    if (kept !== undefined && kept.untilMs > this.#monotonicMs()) return kept.addresses;
    const asking = this.#asking.get(name) ?? this.#ask(name);
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const abort = (): void => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    try {
      if (signal.aborted) abort();
      return await Promise.race([asking, aborted]);
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  #ask(name: string): Promise<readonly string[]> {
    if (this.#waiting.length >= MAX_WAITING)
      return Promise.reject(new KitError("E_EGRESS_LIMIT", "too many names are being looked up"));
    const asking = this.#inTurn(async () => await this.#lookupAll(name)).then((addresses) => {
      this.#keep(name, addresses.slice(0, MAX_ADDRESSES));
      return addresses.slice(0, MAX_ADDRESSES);
    });
    this.#asking.set(name, asking);
    asking.catch(() => undefined).finally(() => this.#asking.delete(name));
    return asking;
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#running += 1;
    try {
      return await work();
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }

  #keep(name: string, addresses: readonly string[]): void {
    const [oldest] = this.#kept.keys();
    if (this.#kept.size >= MAX_KEPT && oldest !== undefined) this.#kept.delete(oldest);
    const keepMs = addresses.length === 0 ? KEEP_FAILURE_MS : KEEP_MS;
    this.#kept.delete(name);
    this.#kept.set(name, { addresses, untilMs: this.#monotonicMs() + keepMs });
  }
}

/** A name that has no address, or of which nobody can tell now, has none. */
async function lookupBySystem(name: string): Promise<readonly string[]> {
  try {
    return (await lookup(name, { all: true, order: "verbatim" })).map(({ address }) => address);
  } catch (error) {
    if (isErrno(error)) return [];
    throw error;
  }
}
