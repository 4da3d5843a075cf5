/**
 * Addresses that the host dials for nobody, whatever the rules say: its own services, its neighbours on the link, and
 * above all the metadata service, which gives the parent instance's credentials to whoever asks from there. An IPv6
 * address is also judged by each IPv4 address inside it. Private networks are not here, because a rule may list them
 * (EgressPolicy.decideResolved).
 */
import { EGRESS_RANGE } from "../../wire/egress-addresses.ts";
import { embeddedAddresses } from "./embedded-addresses.ts";
import {
  contains,
  formatAddress,
  type Network,
  parseAddress,
  addressBytes,
  parseNetwork,
} from "./network.ts";

type Range = readonly [reason: string, networks: readonly Network[]];

/** The first that matches gives the reason. */
const RANGES: readonly Range[] = [
  range("metadata", [
    "169.254.169.254", // AWS, Google, Azure, Oracle and most others
    "169.254.170.2", // AWS: credentials of ECS tasks
    "169.254.170.23", // AWS: credentials of EKS pods
    "fd00:ec2::/32", // AWS: ::254 metadata, ::23 credentials, ::123 time, ::253 DNS
    "fd20:ce::254", // Google
    "168.63.129.16", // Azure: the host's agent
    "100.100.100.200", // Alibaba
    "192.0.0.192", // Oracle, in its early days
  ]),
  range("unspecified", ["0.0.0.0/8", "::"]), // Linux connects these to itself
  range("loopback", ["127.0.0.0/8", "::1"]),
  range("link-local", ["169.254.0.0/16", "fe80::/10", "fec0::/10"]),
  range("multicast", ["224.0.0.0/4", "ff00::/8"]),
  range("broadcast", ["255.255.255.255"]),
  range("reserved", ["240.0.0.0/4", "192.0.0.0/24", "100::/64"]),
  range("enclave", [
    `${EGRESS_RANGE.ipv4}/${EGRESS_RANGE.ipv4Bits}`,
    `${EGRESS_RANGE.ipv6}/${EGRESS_RANGE.ipv6Bits}`,
  ]),
];

export class ForbiddenAddresses {
  readonly #own: ReadonlySet<string>;

  /** @param ownAddresses of the host, as its interfaces have them; a zone is ignored */
  constructor(ownAddresses: readonly string[]) {
    const own = ownAddresses.map((text) => parseAddress(text.split("%", 1)[0] ?? ""));
    this.#own = new Set(own.filter((address) => address !== undefined));
  }

  /** @param address as parseAddress gives it; another text is refused. @returns a word for why not, or null */
  reasonFor(address: string): string | null {
    if (parseAddress(address) !== address) return "not an address";
    if (this.#own.has(address)) return "own address";
    const bytes = addressBytes(address);
    const found = RANGES.find(([, networks]) => networks.some((network) => contains(network, bytes)));
    if (found !== undefined) return found[0];
    for (const inner of embeddedAddresses(bytes)) {
      const reason = this.reasonFor(formatAddress(inner));
      if (reason !== null) return reason;
    }
    return null;
  }
}

function range(reason: string, texts: readonly string[]): Range {
  return [reason, texts.map(parseNetwork)];
}
