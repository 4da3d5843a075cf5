/**
 * The rules of egress. Enclave, host, `pipeline policy check` and tests all decide by this and nothing else.
 *
 *   nothing matches       denied, so no rules means nothing leaves
 *   a deny rule matches   denied, wherever it stands
 *   else                  allowed by the first allow rule that matches; its limits and its `tls` hold
 *
 * Names match rules with `host`, addresses rules with `cidr`, never the other way round. What a name resolves to is
 * decided on the host, where it is resolved: deny rules of addresses hold for it too, and a private address needs an
 * allow rule of its own. A deny rule of addresses also holds for IPv4 addresses inside IPv6 ones.
 */
import type { EgressRule, PortRange } from "../../wire/egress-policy.ts";
import { embeddedAddresses } from "./embedded-addresses.ts";
import { canonicalHostName, isCanonicalHostName } from "./host-name.ts";
import { canonicalAddressBytes, contains, parseAddress, parseNetwork } from "./network.ts";
import { includesPort, isPortLeft } from "./port-ranges.ts";
import { type IndexedRule, RuleIndex } from "./rule-index.ts";

export interface EgressTarget {
  readonly kind: "name" | "address";
  /** As canonicalHostName or parseAddress gives it. */
  readonly host: string;
  readonly port: number;
}

/**
 * no_rule            nothing matches
 * deny_rule          the rule at the decision's index
 * unknown_name       an address that the enclave gave to no name
 * forbidden_address  one that the host dials for nobody, or a private one that no rule lists
 * inspection         the client's bytes do not prove the destination
 * limit              of the rule, or of the proxy
 * host_denied        the host's copy of the rules
 * not_a_name         neither a canonical name nor a canonical address
 */
export type DenyReason =
  | "no_rule"
  | "deny_rule"
  | "unknown_name"
  | "forbidden_address"
  | "inspection"
  | "limit"
  | "host_denied"
  | "not_a_name";

export type EgressDecision =
  | { readonly verdict: "allow"; readonly rule: EgressRule; readonly index: number }
  | {
      readonly verdict: "deny";
      readonly reason: DenyReason;
      /** Of the rule that denies; null where none does. */
      readonly index: number | null;
    };

/** RFC 1918, RFC 6598, RFC 4193. */
const PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"].map(
  parseNetwork,
);

/** What YAML would read as something else than text. */
const YAML_WORDS: ReadonlySet<string> = new Set([
  "true",
  "false",
  "null",
  "yes",
  "no",
  "on",
  "off",
  "y",
  "n",
]);

export class EgressPolicy {
  readonly rules: readonly EgressRule[];
  readonly #index: RuleIndex;

  /** @throws E_EGRESS_NAME, E_EGRESS_RULE for a rule that is not canonical */
  constructor(rules: readonly EgressRule[]) {
    this.rules = [...rules];
    this.#index = new RuleIndex(this.rules);
  }

  /** A target that is not canonical is denied, because a deny rule could not be seen to match it. */
  decide({ kind, host, port }: EgressTarget): EgressDecision {
    if (kind === "name")
      return isCanonicalHostName(host) ? judge(this.#index.rulesOfName(host), port) : deny("not_a_name");
    const bytes = canonicalAddressBytes(host);
    return bytes === undefined ? deny("not_a_name") : this.#decideAddress(bytes, port);
  }

  /** Whether some port of this canonical name is allowed. */
  answersName(name: string): boolean {
    if (!isCanonicalHostName(name)) return false;
    const rules = this.#index.rulesOfName(name);
    const allowing = rules.filter(({ rule }) => rule.action === "allow");
    const denying = rules.filter(({ rule }) => rule.action !== "allow");
    return isPortLeft(portsOf(allowing), portsOf(denying));
  }

  /**
   * On the host, after the name was resolved to `address`, which ForbiddenAddresses lets pass.
   * @returns the decision about the name; deny_rule, or forbidden_address, where the address changes it
   */
  decideResolved(name: string, address: string, port: number): EgressDecision {
    const byName = this.decide({ kind: "name", host: name, port });
    if (byName.verdict === "deny") return byName;
    const bytes = canonicalAddressBytes(address);
    if (bytes === undefined) return deny("forbidden_address");
    const byAddress = this.#decideAddress(bytes, port);
    if (byAddress.verdict === "allow") return byName;
    if (byAddress.reason === "deny_rule") return byAddress;
    return isPrivate(bytes) ? deny("forbidden_address") : byName;
  }

  /** Names of exact allow rules, in order, once each. */
  exactNames(): readonly string[] {
    const names = this.rules.flatMap(({ action, host }) =>
      action === "allow" && host !== undefined && !host.startsWith("*.") ? [host] : [],
    );
    return [...new Set(names)];
  }

  #decideAddress(bytes: Uint8Array, port: number): EgressDecision {
    const decision = judge(this.#index.rulesOfAddress(bytes), port);
    for (const inner of embeddedAddresses(bytes)) {
      const denied = judge(this.#index.rulesOfAddress(inner), port);
      if (denied.verdict === "deny" && denied.reason === "deny_rule") return denied;
    }
    return decision;
  }
}

/** @param rules that are about the host, in any order */
function judge(rules: readonly IndexedRule[], port: number): EgressDecision {
  let allowed: IndexedRule | undefined;
  let denied: IndexedRule | undefined;
  for (const found of rules) {
    if (!includesPort(found.rule.ports, port)) continue;
    if (found.rule.action === "allow") allowed = firstOf(allowed, found);
    else denied = firstOf(denied, found);
  }
  if (denied !== undefined) return deny("deny_rule", denied.index);
  if (allowed === undefined) return deny("no_rule");
  return { verdict: "allow", rule: allowed.rule, index: allowed.index };
}

function firstOf(known: IndexedRule | undefined, found: IndexedRule): IndexedRule {
  return known === undefined || found.index < known.index ? found : known;
}

function deny(reason: DenyReason, index: number | null = null): EgressDecision {
  return { verdict: "deny", reason, index };
}

function isPrivate(bytes: Uint8Array): boolean {
  return [bytes, ...embeddedAddresses(bytes)].some((one) =>
    PRIVATE.some((network) => contains(network, one)),
  );
}

function portsOf(rules: readonly IndexedRule[]): readonly PortRange[] {
  return rules.flatMap(({ rule }) => rule.ports);
}

/** From what a user or the client of a proxy wrote, without brackets and port. @throws E_EGRESS_NAME */
export function toTarget(host: string, port: number): EgressTarget {
  const address = parseAddress(host);
  if (address !== undefined) return { kind: "address", host: address, port };
  return { kind: "name", host: canonicalHostName(host), port };
}

/** `example.com:443`, `[fd00::1]:443`. */
export function formatTarget({ host, port }: EgressTarget): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The rule in YAML that would allow exactly this: `{ host: example.com, port: 443 }`. */
export function suggestRule({ kind, host, port }: EgressTarget): string {
  return `{ ${kind === "name" ? "host" : "cidr"}: ${quoteScalar(kind, host)}, port: ${port} }`;
}

/** In quotes where YAML would read a number (`1e5`), a word of its own (`null`) or a key (`::1`). */
function quoteScalar(kind: EgressTarget["kind"], host: string): string {
  const isPlain = kind === "name" ? /^[a-z_]/.test(host) && !YAML_WORDS.has(host) : !host.includes(":");
  return isPlain ? host : `"${host}"`;
}
