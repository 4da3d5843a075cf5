#ifndef ENCLAVE_INIT_NETWORK_H
#define ENCLAVE_INIT_NETWORK_H

/*
 * Brings loopback up, makes the local ranges reachable and redirects connections; where this kernel can, every other
 * address is local as well, so that a connection to any of them reaches the redirection. Failures are logged.
 */
void start_network(void);

#endif
