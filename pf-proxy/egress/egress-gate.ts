/**
 * Where the enclave decides who may leave it. Every connection of a service ends up here with the destination that it
 * wants, however it came: redirected by the kernel, at a listener of a name, or through a proxy.
 *
 *   policy     no rule, no connection
 *   limits     of the rule
 *   proof      where the rule wants TLS, the ClientHello must name the destination before anything is dialled
 *   host       a vsock connection whose preface names the destination; the host may still say no
 *   relay      with an eye on what the client says, where its protocol shows a name
 */
import { Socket } from "node:net";
import type { Duplex } from "node:stream";

import { Deadline } from "../../core/deadline.ts";
import { KitError, toKitError } from "../../core/errors.ts";
import { type EgressRule, tlsModeOf } from "../../wire/egress-policy.ts";
import { createInspector, type StreamInspector } from "../inspection/stream-inspector.ts";
import {
  type DenyReason,
  type EgressPolicy,
  type EgressTarget,
  formatTarget,
  suggestRule,
} from "../policy/egress-policy.ts";
import { RuleBudget } from "../policy/rule-budget.ts";
import { formatRule } from "../policy/rule-text.ts";
import { type ProxyRequest, type RefusalReason } from "../proxies/proxy-request.ts";
import { relay } from "../relay.ts";
import type { TrafficEntry, TrafficLedger } from "../traffic/traffic-ledger.ts";
import { type DialHost, HostRefusal, openEgressStream } from "./egress-dialer.ts";
import { proveClient } from "./client-proof.ts";
import { describeRefusal } from "./relay-refusal.ts";
import { limitsOf } from "./rule-limits.ts";

export interface EgressGateOptions {
  readonly policy: EgressPolicy;
  readonly ledger: TrafficLedger;
  readonly dialHost: DialHost;
  readonly monotonicMs: () => number;
  readonly limits?: GateLimits;
}

export interface GateLimits {
  /** Connections at one time, in any state. */
  readonly connections: number;
  /** Of these, how many may not have said yet what they want. */
  readonly waiting: number;
  /** Time to say it. */
  readonly proofTimeoutMs: number;
}

export const GATE_LIMITS: GateLimits = { connections: 8192, waiting: 2048, proofTimeoutMs: 10_000 };

interface Admitted {
  readonly rule: EgressRule;
  readonly release: () => void;
}

/** Owns the connections it was given; dispose resets them and waits for their end. */
export class EgressGate implements AsyncDisposable {
  readonly #options: EgressGateOptions;
  readonly #limits: GateLimits;
  readonly #tasks = new Map<Promise<void>, { target?: EgressTarget; readonly abort: AbortController }>();
  #policy: EgressPolicy;
  #budget: RuleBudget;
  #waiting = 0;
  #isClosed = false;

  constructor(options: EgressGateOptions) {
    this.#options = options;
    this.#limits = options.limits ?? GATE_LIMITS;
    this.#policy = options.policy;
    this.#budget = new RuleBudget(options.policy.rules, options.monotonicMs);
    options.ledger.nameRules(options.policy.rules.map(formatRule));
  }

  get policy(): EgressPolicy {
    return this.#policy;
  }

  /** Takes other rules; connections that they do not allow are reset, the others go on under the limits they had. */
  setPolicy(policy: EgressPolicy): void {
    this.#policy = policy;
    this.#budget = new RuleBudget(policy.rules, this.#options.monotonicMs);
    this.#options.ledger.nameRules(policy.rules.map(formatRule));
    for (const { target, abort } of this.#tasks.values()) {
      if (target !== undefined && policy.decide(target).verdict === "deny")
        abort.abort(new KitError("E_EGRESS_DENIED", "the rules have changed"));
    }
  }

  /** A connection that came for `target`; nothing of it was read. */
  serve(client: Duplex, target: EgressTarget): void {
    const request = { target, accept: () => undefined, refuse: () => reset(client) };
    this.#begin(client, () => Promise.resolve(request));
  }

  /** A connection to a proxy listener, which says in `read` what it wants. */
  serveProxy(client: Duplex, read: (stream: Duplex, signal: AbortSignal) => Promise<ProxyRequest>): void {
    if (this.#waiting >= this.#limits.waiting) return reset(client);
    this.#begin(client, async (signal) => {
      this.#waiting += 1;
      try {
        using deadline = new Deadline(signal, this.#limits.proofTimeoutMs);
        return await read(client, deadline.signal);
      } finally {
        this.#waiting -= 1;
      }
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const reason = new KitError("E_CANCELLED", "egress is being closed");
    for (const { abort } of this.#tasks.values()) abort.abort(reason);
    await Promise.all(this.#tasks.keys());
  }

  #begin(client: Duplex, ask: (signal: AbortSignal) => Promise<ProxyRequest>): void {
    client.on("error", () => undefined); // seen by whoever reads or writes
    if (this.#tasks.size >= this.#limits.connections || this.#isClosed) return reset(client);
    const state: { target?: EgressTarget; readonly abort: AbortController } = {
      abort: new AbortController(),
    };
    const { signal } = state.abort;
    const work = async (): Promise<void> => {
      try {
        const request = await ask(signal);
        state.target = request.target;
        await this.#carry(client, request, state.abort);
      } catch (error) {
        this.#recordNonsense(error);
        reset(client); // the client was told, or is not one
      }
    };
    const task = work();
    this.#tasks.set(task, state);
    void task.finally(() => this.#tasks.delete(task));
  }

  async #carry(client: Duplex, request: ProxyRequest, abort: AbortController): Promise<void> {
    const { target } = request;
    const admitted = this.#admit(request);
    if (admitted === undefined) return;
    const { rule, release } = admitted;
    const { ledger } = this.#options;
    const entry = ledger.open({
      direction: "egress",
      peer: formatTarget(target),
      rule: formatRule(rule),
      limits: limitsOf(rule),
      onLimit: (limit) => abort.abort(new KitError("E_EGRESS_LIMIT", limit)),
    });
    const { signal } = abort;
    let isOpen = false;
    try {
      isOpen = await this.#connect(client, request, { rule, entry, signal });
    } finally {
      entry.close(!isOpen);
      release();
    }
  }

  /** @returns undefined where the policy or a limit says no; the client was told then. */
  #admit(request: ProxyRequest): Admitted | undefined {
    const decision = this.#policy.decide(request.target);
    if (decision.verdict === "deny") {
      this.#deny(request, decision.reason, decision.reason);
      return undefined;
    }
    const taken = this.#budget.take(decision.index);
    if (typeof taken === "string") {
      this.#deny(request, "limit", `limit: ${taken} of ${formatRule(decision.rule)}`);
      return undefined;
    }
    return { rule: decision.rule, release: taken.release };
  }

  /** @returns whether bytes were relayed. */
  async #connect(
    client: Duplex,
    request: ProxyRequest,
    { rule, entry, signal }: { rule: EgressRule; entry: TrafficEntry; signal: AbortSignal },
  ): Promise<boolean> {
    const { target } = request;
    const inspector = createInspector({ tls: tlsModeOf(rule, target.port), target });
    const isFirst = !inspector.proven;
    if (isFirst) {
      // A client of a proxy says nothing to the destination before the proxy has agreed.
      request.accept();
      if (!(await this.#prove(client, request, { inspector, signal }))) return false;
    }
    const host = await this.#dial(request, signal);
    if (host === undefined) return false;
    if (!isFirst) request.accept();
    entry.open();
    const watched = isFirst || tlsModeOf(rule, target.port) === "off" ? {} : { inspector };
    const result = await relay(client, host, {
      signal,
      ...watched,
      onBytes: (from, sizeBytes) => (from === "a" ? entry.addOut(sizeBytes) : entry.addIn(sizeBytes)),
    });
    const refusal = describeRefusal(result.cause);
    if (refusal !== undefined) this.#record(target, refusal);
    return true;
  }

  async #prove(
    client: Duplex,
    request: ProxyRequest,
    { inspector, signal }: { inspector: StreamInspector; signal: AbortSignal },
  ): Promise<boolean> {
    if (this.#waiting >= this.#limits.waiting) {
      reset(client);
      return false;
    }
    this.#waiting += 1;
    try {
      using deadline = new Deadline(signal, this.#limits.proofTimeoutMs);
      await proveClient(client, inspector, deadline.signal);
      return true;
    } catch (error) {
      if (!signal.aborted) this.#record(request.target, describeFailure(error));
      reset(client);
      return false;
    } finally {
      this.#waiting -= 1;
    }
  }

  async #dial(request: ProxyRequest, signal: AbortSignal): Promise<Duplex | undefined> {
    try {
      return await openEgressStream(request.target, this.#options.dialHost, signal);
    } catch (error) {
      if (signal.aborted) {
        // By a limit, by other rules, or because everything ends: the host has no part in it.
        const refusal = describeRefusal(signal.reason);
        if (refusal !== undefined) this.#record(request.target, refusal);
        request.refuse("limit");
      } else if (error instanceof HostRefusal) this.#deny(request, error.status, `host: ${error.status}`);
      else this.#deny(request, "unreachable", `host: ${toKitError(error).code}`);
      return undefined;
    }
  }

  #deny(request: ProxyRequest, answer: RefusalReason, reason: string): void {
    this.#record(request.target, reason, isAllowable(answer) ? suggestRule(request.target) : null);
    request.refuse(answer);
  }

  /** What came to a proxy and names nobody. */
  #recordNonsense(error: unknown): void {
    if (!(error instanceof KitError)) return;
    if (error.code !== "E_EGRESS_NAME" && error.code !== "E_EGRESS_PROXY") return;
    this.#options.ledger.deny({ target: "a proxy", reason: `not_a_name: ${error.message}`, allow: null });
  }

  #record(target: EgressTarget, reason: string, allow: string | null = null): void {
    this.#options.ledger.deny({ target: formatTarget(target), reason, allow });
  }
}

/** What a rule more could change. */
function isAllowable(answer: RefusalReason): answer is DenyReason {
  return answer === "no_rule" || answer === "unknown_name";
}

/** Of a client that did not prove itself. */
function describeFailure(error: unknown): string {
  const silent = error instanceof Error && error.name === "TimeoutError";
  return describeRefusal(error) ?? (silent ? "inspection: said nothing in time" : "inspection: gone");
}

function reset(stream: Duplex): void {
  if (stream instanceof Socket && !stream.destroyed && stream.remotePort !== undefined)
    stream.resetAndDestroy();
  else stream.destroy();
}
