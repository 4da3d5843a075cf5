#ifndef ENCLAVE_INIT_RESOLVER_H
#define ENCLAVE_INIT_RESOLVER_H

/* Makes /etc/resolv.conf name the resolver of this machine, whatever the image has there. Failures are logged. */
void name_resolver(void);

#endif
