/**
 * IPv4 addresses inside IPv6 ones. Where a gateway of that kind is on the way, the packet ends up at the IPv4 address,
 * so a rule or a guard that looks at the outer address alone is walked around.
 *
 *   ::a.b.c.d                    IPv4-compatible (RFC 4291)            last 32 bits
 *   ::ffff:0:a.b.c.d             IPv4-translated (RFC 2765)            last 32 bits
 *   64:ff9b::a.b.c.d             NAT64, the well-known prefix (6052)   last 32 bits
 *   64:ff9b:1::/48               NAT64 of one's own network (8215)     at the four places of RFC 6052 section 2.2
 *   2002:aabb:ccdd::             6to4 (3056)                           after the prefix
 *   2001:0:aabb:ccdd:...         Teredo (4380)                         the server; and inverted at the end: the client
 *   ...:0:5efe:a.b.c.d           ISATAP (5214), any prefix             last 32 bits
 *
 * IPv4-mapped addresses (::ffff:a.b.c.d) do not come here: parseAddress has made them IPv4.
 */
import { contains, type Network, parseNetwork } from "./network.ts";

interface Embedding {
  readonly network: Network;
  /** Where each of the four bytes is. */
  readonly places: readonly [number, number, number, number];
  readonly inverted: boolean;
}

const LAST = [12, 13, 14, 15] as const;
/** Which of its four layouts a network chose cannot be seen, so each is tried; byte 8 is zero in all but the last. */
const OWN_NAT64 = "64:ff9b:1::/48";
const EMBEDDINGS: readonly Embedding[] = [
  embedding("::/96", LAST),
  embedding("::ffff:0:0:0/96", LAST),
  embedding("64:ff9b::/96", LAST),
  embedding(OWN_NAT64, [6, 7, 9, 10]),
  embedding(OWN_NAT64, [7, 9, 10, 11]),
  embedding(OWN_NAT64, [9, 10, 11, 12]),
  embedding(OWN_NAT64, LAST),
  embedding("2002::/16", [2, 3, 4, 5]),
  embedding("2001::/32", [4, 5, 6, 7]),
  embedding("2001::/32", LAST, true),
];

/** What may be inside; empty for IPv4. @param bytes 4 or 16. @returns each 4 bytes */
export function embeddedAddresses(bytes: Uint8Array): readonly Uint8Array[] {
  if (bytes.length === 4) return [];
  const found = EMBEDDINGS.filter(({ network }) => contains(network, bytes))
    .map((form) => ({ form, inner: extract(bytes, form) }))
    // Padding of another layout: no translator takes a packet for 0.0.0.0/8.
    .filter(({ form, inner }) => form.network.text !== OWN_NAT64 || inner[0] !== 0)
    .map(({ inner }) => inner);
  return isIsatap(bytes) ? [...found, bytes.slice(12)] : found;
}

function extract(bytes: Uint8Array, { places, inverted }: Embedding): Uint8Array {
  return Uint8Array.from(places, (place) => (bytes[place] ?? 0) ^ (inverted ? 0xff : 0));
}

/** The interface identifier is 0000:5efe or, for addresses that are unique world-wide, 0200:5efe. */
function isIsatap(bytes: Uint8Array): boolean {
  const [first, ...others] = bytes.subarray(8, 12);
  return (first === 0 || first === 2) && Buffer.compare(Uint8Array.from(others), ISATAP_TAIL) === 0;
}

const ISATAP_TAIL = Uint8Array.of(0, 0x5e, 0xfe);

function embedding(prefix: string, places: Embedding["places"], inverted = false): Embedding {
  return { network: parseNetwork(prefix), places, inverted };
}
