/*
 * Constants that C and TypeScript share: wire/runtime-layout.ts, wire/ports.ts, wire/init-line.ts,
 * wire/hybrid-vsock.ts, wire/egress-addresses.ts and wire/nsm/nsm-limits.ts hold the same values, and
 * test/native/constants.test.ts compares them by parsing this file.
 * One constant a line, no arithmetic: the parser understands only that.
 */
#ifndef ENCLAVE_LAYOUT_H
#define ENCLAVE_LAYOUT_H

/* Files of the toolkit inside every root file system. */
#define RUNTIME_NODE "/opt/enclave/bin/node"
#define RUNTIME_LOADER "/opt/enclave/lib/ld.so"
#define RUNTIME_LIBRARIES "/opt/enclave/lib"
#define RUNTIME_INITCTL "/opt/enclave/initctl.mjs"
#define RUNTIME_INITCTL_PROGRAM "/opt/enclave/bin/initctl"
#define RUNTIME_SUPERVISOR_ARGV "/opt/enclave/supervisor.argv"

/* The file of supervisor arguments: one argument a line. */
#define SUPERVISOR_ARGV_MAX_BYTES 4096
#define SUPERVISOR_ARGV_MAX_ARGUMENTS 32

/* Ports on the host that init connects to. */
#define PORT_HEARTBEAT 9000
#define PORT_INIT_REPORT 9003
#define HEARTBEAT_BYTE 0xb7

/* Port on the host of the development NSM, and what a Nitro Security Module takes and gives. */
#define PORT_DEVELOPMENT_NSM 9002
#define NSM_REQUEST_MAX_BYTES 0x1000
#define NSM_RESPONSE_MAX_BYTES 0x3000

/* Descriptors. */
#define SUPERVISOR_FD_VSOCK_DIRECTORY 3
#define SUPERVISOR_FD_NOTIFY 4

/*
 * Ranges of which every address is local: names that services may reach get addresses here. 198.18.0.0/15 is set apart
 * for tests between networks (RFC 2544), so no real peer has one. The IPv6 range is a unique local one (RFC 4193; its 40
 * random bits were drawn once), with an IPv4 address in its last 32 bits.
 */
#define OWN_ADDRESS "198.18.0.1"
#define LOCAL_RANGE_V4 "198.18.0.0"
#define LOCAL_RANGE_V4_BITS 15
#define LOCAL_RANGE_V6 "fd50:5ce8:64ff::"
#define LOCAL_RANGE_V6_BITS 96

/* The resolver that /etc/resolv.conf names. */
#define RESOLVER_ADDRESS "198.18.0.2"

/* Ports of loopback to which the kernel redirects what goes to any other address. */
#define PORT_REDIRECT_EGRESS 2
#define PORT_REDIRECT_DNS 3

/* Names of sockets in the vsock directory; the port follows the prefix. */
#define VSOCK_HOST_SOCKET_PREFIX "vsock.sock_"

/* Longest line of init's report and of the supervisor's notices, newline included. */
#define MAX_INIT_LINE_BYTES 512
#define MAX_NOTICE_BYTES 512

/* Why init ended the machine. */
#define END_POWEROFF "poweroff"
#define END_SUPERVISOR_CRASH_LOOP "supervisor_crash_loop"
#define END_SUPERVISOR_REFUSED "supervisor_refused"
#define END_SHUTDOWN_TIMEOUT "shutdown_timeout"
#define END_INIT_FAILED "init_failed"

/* Exit status by which the supervisor says that a further start would end the same way (EX_CONFIG). */
#define SUPERVISOR_EXIT_REFUSED 78

#endif
