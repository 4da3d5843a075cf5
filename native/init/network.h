#ifndef ENCLAVE_INIT_NETWORK_H
#define ENCLAVE_INIT_NETWORK_H

/*
 * Ranges of which every address is local: names that services may reach get addresses here, and pf-proxy listens on
 * them. 198.18.0.0/15 is set apart for tests between networks (RFC 2544), so no real peer has one. The IPv6 range is
 * a unique local one (RFC 4193; its 40 random bits were drawn once), with an IPv4 address in its last 32 bits.
 */
#define LOCAL_RANGE_V4 "198.18.0.0"
#define LOCAL_RANGE_V4_BITS 15
#define LOCAL_RANGE_V6 "fd50:5ce8:64ff::"
#define LOCAL_RANGE_V6_BITS 96

/* Brings loopback up and makes the local ranges reachable. Failures are logged. */
void start_network(void);

#endif
