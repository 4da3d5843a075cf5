/** Finds the rules that are about a name or an address without looking at every rule. */
import { KitError } from "../../core/errors.ts";
import type { EgressRule } from "../../wire/egress-policy.ts";
import { parseHostPattern } from "./host-name.ts";
import { contains, type Network, parseNetwork } from "./network.ts";
import { isPortList } from "./port-ranges.ts";
import { quoteText } from "./quoted-text.ts";

/** A rule and its place in the list. */
export interface IndexedRule {
  readonly rule: EgressRule;
  readonly index: number;
}

interface NetworkRule extends IndexedRule {
  readonly network: Network;
}

export class RuleIndex {
  readonly #byName = new Map<string, IndexedRule[]>();
  /** Wildcards, by the name below which they reach. */
  readonly #below = new Map<string, IndexedRule[]>();
  readonly #networks: NetworkRule[] = [];

  /** @throws E_EGRESS_NAME, E_EGRESS_RULE for a rule that is not canonical */
  constructor(rules: readonly EgressRule[]) {
    for (const [index, rule] of rules.entries()) this.#add({ rule, index });
  }

  /** In no order. @param name canonical */
  rulesOfName(name: string): readonly IndexedRule[] {
    const found = [...(this.#byName.get(name) ?? [])];
    if (this.#below.size === 0) return found;
    for (let dot = name.indexOf("."); dot !== -1; dot = name.indexOf(".", dot + 1))
      for (const rule of this.#below.get(name.slice(dot + 1)) ?? []) found.push(rule);
    return found;
  }

  /** In the order of the rules. @param bytes 4 or 16 */
  rulesOfAddress(bytes: Uint8Array): readonly IndexedRule[] {
    return this.#networks.filter(({ network }) => contains(network, bytes));
  }

  #add(indexed: IndexedRule): void {
    const { rule, index } = indexed;
    const { host, cidr, ports } = rule;
    if (!isPortList(ports)) throw refuse(index, "ports must be ascending ranges of 1 to 65535");
    if ((host === undefined) === (cidr === undefined)) throw refuse(index, "needs either host or cidr");
    if (host !== undefined) this.#addHost(host, indexed);
    if (cidr !== undefined) this.#networks.push({ rule, index, network: parseCanonical(cidr, index) });
  }

  #addHost(host: string, indexed: IndexedRule): void {
    const { text, wildcard, name } = parseHostPattern(host);
    if (text !== host) throw refuse(indexed.index, `${quoteText(host)} must be written ${text}`);
    const table = wildcard ? this.#below : this.#byName;
    const known = table.get(name);
    if (known === undefined) table.set(name, [indexed]);
    else known.push(indexed);
  }
}

function parseCanonical(cidr: string, index: number): Network {
  const network = parseNetwork(cidr);
  if (network.text !== cidr) throw refuse(index, `${quoteText(cidr)} must be written ${network.text}`);
  return network;
}

function refuse(index: number, why: string): KitError {
  return new KitError("E_EGRESS_RULE", `rule ${index}: ${why}`);
}
