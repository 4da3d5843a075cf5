#ifndef ENCLAVE_INIT_TUNING_H
#define ENCLAVE_INIT_TUNING_H

/*
 * Sets what the kernel remembers of connections, and for how long. Best effort and silent: what a kernel has not, or
 * lets only a machine of its own change, stays as it is. After the redirection, which is what loads the tracking.
 */
void tune_network(void);

#endif
