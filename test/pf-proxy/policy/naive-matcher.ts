/** What the rules mean, once more and as plainly as possible, to compare the policy with. */
import type { EgressRule } from "../../../wire/egress-policy.ts";
import type { EgressDecision, EgressTarget } from "../../../pf-proxy/policy/egress-policy.ts";

/** @param target canonical; IPv4 addresses only */
export function decideNaively(rules: readonly EgressRule[], target: EgressTarget): EgressDecision {
  const matching = rules.map((rule) => isAbout(rule, target) && hasPort(rule, target.port));
  const denied = rules.findIndex((rule, at) => matching[at] === true && rule.action === "deny");
  if (denied !== -1) return { verdict: "deny", reason: "deny_rule", index: denied };
  const index = matching.indexOf(true);
  const rule = rules[index];
  return rule === undefined
    ? { verdict: "deny", reason: "no_rule", index: null }
    : { verdict: "allow", rule, index };
}

function isAbout({ host, cidr }: EgressRule, target: EgressTarget): boolean {
  if (target.kind === "address") return cidr !== undefined && toBits(target.host).startsWith(prefixOf(cidr));
  if (host === undefined) return false;
  return host.startsWith("*.") ? target.host.endsWith(host.slice(1)) : target.host === host;
}

function hasPort({ ports }: EgressRule, port: number): boolean {
  return ports.some(({ from, to }) => from <= port && port <= to);
}

function prefixOf(cidr: string): string {
  const [address = "", bits = ""] = cidr.split("/");
  return toBits(address).slice(0, Number(bits));
}

function toBits(ipv4: string): string {
  return ipv4
    .split(".")
    .map((part) => Number(part).toString(2).padStart(8, "0"))
    .join("");
}
