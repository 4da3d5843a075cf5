/** A rule in the words of enclave.yaml. */
import type { EgressRule, PortRange } from "../../wire/egress-policy.ts";

const ALL_PORTS = 65_535;

/** `{ host: example.com, port: 443 }`, with everything else that tells it from others. */
export function formatRule(rule: EgressRule): string {
  const place = rule.host === undefined ? `cidr: ${quote(rule.cidr ?? "")}` : `host: ${quote(rule.host)}`;
  const parts = [
    ...(rule.action === "deny" ? ["action: deny"] : []),
    place,
    ...formatPorts(rule.ports),
    ...(rule.tls === undefined ? [] : [`tls: ${rule.tls}`]),
    ...(rule.connectTo === undefined ? [] : [`connect_to: ${quote(formatPlace(rule.connectTo))}`]),
  ];
  return `{ ${parts.join(", ")} }`;
}

function formatPorts(ports: readonly PortRange[]): string[] {
  const texts = ports.map(({ from, to }) => (from === to ? String(from) : `${from}-${to}`));
  const [only] = ports;
  if (ports.length === 1 && only?.from === 1 && only.to === ALL_PORTS) return [];
  return [`port: ${texts.length === 1 ? (texts[0] ?? "") : `[${texts.join(", ")}]`}`];
}

function formatPlace({ address, port }: { readonly address: string; readonly port: number }): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** YAML would read `*`, `:` and brackets as its own. */
function quote(text: string): string {
  return /^[a-z0-9][a-z0-9./_-]*$/.test(text) ? text : JSON.stringify(text);
}
