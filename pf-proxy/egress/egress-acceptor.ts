/**
 * The host's end of egress: takes connections of the enclave, reads the preface (wire/egress-preface.ts), decides again
 * with the host's own copy of the rules, and connects. The enclave is not trusted here: one that was taken over still
 * reaches only what the rules say, and nothing of the host itself.
 *
 * A name is looked up once; its addresses are filtered, and what was checked is what is dialled. The first bytes are
 * looked at here too, though only after the dial: the destination then sees a connection, and nothing on it.
 */
import { networkInterfaces } from "node:os";
import type { Duplex } from "node:stream";

import { Deadline } from "../../core/deadline.ts";
import { isErrno, KitError, toKitError } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { type EgressRule, tlsModeOf } from "../../wire/egress-policy.ts";
import {
  decodeEgressHead,
  decodeEgressTarget,
  EGRESS_HEAD_BYTES,
  type EgressStatus,
  encodeEgressAnswer,
} from "../../wire/egress-preface.ts";
import { createInspector } from "../inspection/stream-inspector.ts";
import { EgressPolicy, type EgressTarget, formatTarget, suggestRule } from "../policy/egress-policy.ts";
import { ForbiddenAddresses } from "../policy/forbidden-addresses.ts";
import { canonicalHostName } from "../policy/host-name.ts";
import { formatAddress, parseAddress } from "../policy/network.ts";
import { RuleBudget } from "../policy/rule-budget.ts";
import { formatRule } from "../policy/rule-text.ts";
import { readExactly } from "../preface-reader.ts";
import { relay } from "../relay.ts";
import type { TrafficLedger } from "../traffic/traffic-ledger.ts";
import { dialAddresses } from "./address-dialer.ts";
import type { HostLookup } from "./host-lookup.ts";
import { describeRefusal } from "./relay-refusal.ts";
import { limitsOf } from "./rule-limits.ts";

export interface EgressAcceptorOptions {
  readonly rules: readonly EgressRule[];
  readonly ledger: TrafficLedger;
  readonly lookup: HostLookup;
  readonly log: Log;
  readonly monotonicMs: () => number;
  /** Addresses of this host; its interfaces unless told. */
  readonly ownAddresses?: () => readonly string[];
  readonly limits?: AcceptorLimits;
}

export interface AcceptorLimits {
  readonly connections: number;
  /** Of these, how many may be without a complete preface. */
  readonly waiting: number;
  readonly prefaceTimeoutMs: number;
  readonly dialTimeoutMs: number;
}

export const ACCEPTOR_LIMITS: AcceptorLimits = {
  connections: 8192,
  waiting: 512,
  prefaceTimeoutMs: 5_000,
  dialTimeoutMs: 10_000,
};

/** Addresses in the reason of a refusal. */
const MAX_TOLD = 4;

interface Asked {
  readonly target: EgressTarget;
  readonly token: Uint8Array;
}

/** Says no with a status; `reason` is for the operator. */
class Refusal extends Error {
  readonly status: EgressStatus;
  readonly allow: string | null;

  constructor(status: EgressStatus, reason: string, allow: string | null = null) {
    super(reason);
    this.status = status;
    this.allow = allow;
  }
}

/** Owns the connections it accepted; dispose resets them and waits for their end. */
export class EgressAcceptor implements AsyncDisposable {
  readonly #options: EgressAcceptorOptions;
  readonly #limits: AcceptorLimits;
  readonly #tasks = new Map<Promise<void>, { target?: EgressTarget; readonly abort: AbortController }>();
  #policy: EgressPolicy;
  #budget: RuleBudget;
  #waiting = 0;
  #isClosed = false;

  /** @throws E_EGRESS_RULE, E_EGRESS_NAME */
  constructor(options: EgressAcceptorOptions) {
    this.#options = options;
    this.#limits = options.limits ?? ACCEPTOR_LIMITS;
    this.#policy = new EgressPolicy(options.rules);
    this.#budget = new RuleBudget(options.rules, options.monotonicMs);
    options.ledger.nameRules(options.rules.map(formatRule));
  }

  /** Takes other rules; connections that they do not allow are reset. */
  setRules(rules: readonly EgressRule[]): void {
    this.#policy = new EgressPolicy(rules);
    this.#budget = new RuleBudget(rules, this.#options.monotonicMs);
    this.#options.ledger.nameRules(rules.map(formatRule));
    for (const { target, abort } of this.#tasks.values()) {
      if (target !== undefined && this.#policy.decide(target).verdict === "deny")
        abort.abort(new KitError("E_EGRESS_DENIED", "the rules have changed"));
    }
  }

  /** Takes over a connection that nothing was read from; it must allow half-open connections. */
  accept(connection: Duplex): void {
    connection.on("error", () => undefined); // seen by whoever reads or writes
    const full = this.#tasks.size >= this.#limits.connections || this.#waiting >= this.#limits.waiting;
    if (full || this.#isClosed) return void connection.destroy();
    const state: { target?: EgressTarget; readonly abort: AbortController } = {
      abort: new AbortController(),
    };
    const task = this.#serve(connection, state).catch((error: unknown) => {
      const { code, message } = toKitError(error);
      this.#options.log.info("egress connection dropped", { code, reason: message });
      connection.destroy();
    });
    this.#tasks.set(task, state);
    void task.finally(() => this.#tasks.delete(task));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const reason = new KitError("E_CANCELLED", "egress is being closed");
    for (const { abort } of this.#tasks.values()) abort.abort(reason);
    await Promise.all(this.#tasks.keys());
  }

  async #serve(
    connection: Duplex,
    state: { target?: EgressTarget; readonly abort: AbortController },
  ): Promise<void> {
    const asked = await this.#readPreface(connection, state.abort.signal);
    state.target = asked.target;
    try {
      await this.#carry(connection, asked, state.abort);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const { status, message: reason, allow } = error;
      this.#options.ledger.deny({ target: formatTarget(asked.target), reason, allow });
      connection.end(encodeEgressAnswer(status, asked.token), () => connection.destroy());
    }
  }

  async #readPreface(connection: Duplex, stop: AbortSignal): Promise<Asked> {
    using deadline = new Deadline(stop, this.#limits.prefaceTimeoutMs);
    const { signal } = deadline;
    this.#waiting += 1;
    try {
      const head = decodeEgressHead(
        await readExactly(connection, EGRESS_HEAD_BYTES, signal, "E_EGRESS_PREFACE"),
      );
      const bytes = await readExactly(connection, head.lengthBytes, signal, "E_EGRESS_PREFACE");
      const destination = decodeEgressTarget(head, bytes);
      const { port, token } = head;
      if (destination.kind === "name")
        return { target: { kind: "name", host: assertCanonical(destination.name), port }, token };
      const host = parseAddress(formatAddress(destination.bytes)) ?? "";
      return { target: { kind: "address", host, port }, token };
    } finally {
      this.#waiting -= 1;
    }
  }

  async #carry(connection: Duplex, { target, token }: Asked, abort: AbortController): Promise<void> {
    const decision = this.#policy.decide(target);
    if (decision.verdict === "deny") {
      const allow = decision.reason === "no_rule" ? suggestRule(target) : null;
      throw new Refusal("denied", decision.reason, allow);
    }
    const { rule } = decision;
    const taken = this.#budget.take(decision.index);
    if (typeof taken === "string") throw new Refusal("busy", `limit: ${taken} of ${formatRule(rule)}`);
    const { signal } = abort;
    const entry = this.#options.ledger.open({
      direction: "egress",
      peer: formatTarget(target),
      rule: formatRule(rule),
      limits: limitsOf(rule),
      onLimit: (limit) => abort.abort(new KitError("E_EGRESS_LIMIT", limit)),
    });
    let isOpen = false;
    try {
      const destination = await this.#dial(target, rule, signal);
      isOpen = true;
      entry.open();
      connection.write(encodeEgressAnswer("connected", token));
      const result = await relay(connection, destination, {
        signal,
        inspector: createInspector({ tls: tlsModeOf(rule, target.port), target }),
        onBytes: (from, sizeBytes) => (from === "a" ? entry.addOut(sizeBytes) : entry.addIn(sizeBytes)),
      });
      const refusal = describeRefusal(result.cause);
      if (refusal !== undefined)
        this.#options.ledger.deny({ target: formatTarget(target), reason: refusal, allow: null });
    } finally {
      entry.close(!isOpen);
      taken.release();
    }
  }

  /** @throws Refusal */
  async #dial(target: EgressTarget, rule: EgressRule, stop: AbortSignal): Promise<Duplex> {
    using deadline = new Deadline(stop, this.#limits.dialTimeoutMs);
    const { signal } = deadline;
    const { connectTo } = rule;
    try {
      if (connectTo !== undefined) return await dialAddresses([connectTo.address], connectTo.port, signal);
      const addresses = target.kind === "address" ? [target.host] : await this.#resolve(target, signal);
      return await dialAddresses(this.#assertReachable(target, addresses), target.port, signal);
    } catch (error) {
      if (error instanceof Refusal) throw error;
      stop.throwIfAborted();
      if (isErrno(error, "ECONNREFUSED")) throw new Refusal("refused", "refused by the destination");
      throw new Refusal("unreachable", `no connection: ${isErrno(error) ? (error.code ?? "") : "deadline"}`);
    }
  }

  async #resolve(target: EgressTarget, signal: AbortSignal): Promise<readonly string[]> {
    const found = await this.#options.lookup.find(target.host, signal);
    const addresses = found.map(parseAddress).filter((address) => address !== undefined);
    if (addresses.length === 0) throw new Refusal("notResolved", "the host finds no address for the name");
    return addresses;
  }

  /** Those that may be dialled. @throws Refusal if none may */
  #assertReachable(target: EgressTarget, addresses: readonly string[]): readonly string[] {
    const forbidden = new ForbiddenAddresses((this.#options.ownAddresses ?? listOwnAddresses)());
    const reasons = addresses.map((address) => ({ address, why: this.#whyNot(target, address, forbidden) }));
    const allowed = reasons.flatMap(({ address, why }) => (why === null ? [address] : []));
    if (allowed.length > 0) return allowed;
    const texts = reasons.map(({ address, why }) => `${address} (${why ?? ""})`);
    throw new Refusal("forbidden", `forbidden_address: ${texts.slice(0, MAX_TOLD).join(", ")}`);
  }

  #whyNot(target: EgressTarget, address: string, forbidden: ForbiddenAddresses): string | null {
    const reason = forbidden.reasonFor(address);
    if (reason !== null || target.kind === "address") return reason;
    const decision = this.#policy.decideResolved(target.host, address, target.port);
    return decision.verdict === "allow" ? null : decision.reason === "deny_rule" ? "deny rule" : "private";
  }
}

/** The enclave's side has made it canonical; whoever sends another form is not that. @throws E_EGRESS_NAME */
function assertCanonical(name: string): string {
  if (canonicalHostName(name) === name) return name;
  throw new KitError("E_EGRESS_NAME", `not a canonical name: ${JSON.stringify(name.slice(0, 64))}`);
}

function listOwnAddresses(): readonly string[] {
  return Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address));
}
