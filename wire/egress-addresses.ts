/**
 * Addresses and ports inside the enclave through which egress goes. native/common/layout.h holds the same values;
 * a test compares them.
 *
 * Every address of both ranges is local to the enclave (init makes the routes). A name that the policy allows gets an
 * IPv4 address of the first range, and the IPv6 address that ends in the same 32 bits.
 */
export const EGRESS_RANGE = {
  /** 198.18.0.0/15, set apart for tests between networks (RFC 2544): no real peer has one of them. */
  ipv4: "198.18.0.0",
  ipv4Bits: 15,
  /** The last 32 bits are an IPv4 address. */
  ipv6: "fd50:5ce8:64ff::",
  ipv6Bits: 96,
} as const;

/** The enclave's own: C libraries use IPv4 only where there is an address beside loopback's. */
export const OWN_ADDRESS = "198.18.0.1";
/** The resolver that /etc/resolv.conf names; port 53. */
export const RESOLVER_ADDRESS = "198.18.0.2";
/** Where the gateway finds out whether the kernel redirects: nothing else ever has this address. */
export const PROBE_ADDRESS = "198.18.0.3";
/** Addresses of names begin here; what is before is reserved. */
export const FIRST_NAME_ADDRESS = "198.18.1.0";

/**
 * Ports on 127.0.0.1 and ::1 to which the kernel redirects. All ports below FIRST_FREE_PORT need a capability, so that no
 * service can listen in the gateway's place; those from there on, which in a network of its own guard nothing, need none.
 */
export const REDIRECT_PORT = {
  /** TCP to anything that is not loopback. */
  egress: 2,
  /** UDP and TCP to port 53 of anything that is not loopback. */
  dns: 3,
} as const;
export const FIRST_FREE_PORT = 4;
