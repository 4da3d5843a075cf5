/** What the limits of rules leave: connections at one time, and new ones in each second. */
import type { EgressRule } from "../../wire/egress-policy.ts";

/**
 * Credit is counted in thousandths of a connection, so that a rate of N in a second gains N in a millisecond and whole
 * milliseconds add up without a fraction.
 */
const CONNECTION_CREDIT = 1000;

interface Budget {
  readonly connections: number;
  readonly rate: number | undefined;
  live: number;
  credit: number;
  filledMs: number;
}

export class RuleBudget {
  readonly #nowMs: () => number;
  readonly #budgets: readonly Budget[];

  /** @param nowMs monotonic, from any origin */
  constructor(
    rules: readonly Pick<EgressRule, "connections" | "connectionsPerSecond">[],
    nowMs: () => number,
  ) {
    this.#nowMs = nowMs;
    const filledMs = nowMs();
    this.#budgets = rules.map(({ connections, connectionsPerSecond: rate }) => ({
      connections: connections ?? Number.POSITIVE_INFINITY,
      rate,
      live: 0,
      credit: fullCredit(rate ?? 0),
      filledMs,
    }));
  }

  /**
   * One connection of the rule at `index`, or the limit that it would break, which costs nothing. `release` may be called
   * again and does nothing then.
   */
  take(index: number): { readonly release: () => void } | "connections" | "rate" {
    const budget = this.#budgets[index];
    if (budget === undefined || budget.live >= budget.connections) return "connections";
    if (!this.#spend(budget)) return "rate";
    budget.live += 1;
    let isReleased = false;
    const release = (): void => {
      if (isReleased) return;
      isReleased = true;
      budget.live -= 1;
    };
    return { release };
  }

  #spend(budget: Budget): boolean {
    const { rate, filledMs } = budget;
    if (rate === undefined) return true;
    // A clock that steps back gives nothing, and nothing twice when it has caught up.
    const nowMs = Math.max(filledMs, this.#nowMs());
    budget.credit = Math.min(fullCredit(rate), budget.credit + (nowMs - filledMs) * rate);
    budget.filledMs = nowMs;
    if (budget.credit < CONNECTION_CREDIT) return false;
    budget.credit -= CONNECTION_CREDIT;
    return true;
  }
}

/** A second's worth, and never less than one connection. */
function fullCredit(rate: number): number {
  return Math.max(1, rate) * CONNECTION_CREDIT;
}
