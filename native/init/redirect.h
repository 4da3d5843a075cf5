#ifndef ENCLAVE_INIT_REDIRECT_H
#define ENCLAVE_INIT_REDIRECT_H

/*
 * Makes the kernel hand every connection that leaves loopback to the gateway, and refuse every other packet that does.
 * Answers 0, or an errno if this kernel lacks any part of it; then nothing has changed.
 */
int redirect_connections(void);

#endif
