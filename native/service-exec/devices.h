#ifndef ENCLAVE_SERVICE_EXEC_DEVICES_H
#define ENCLAVE_SERVICE_EXEC_DEVICES_H

#include <stdbool.h>

/*
 * Covers /dev with one that has only harmless nodes, terminals of its own and its own /dev/shm; and /dev/nsm where
 * `nsm` asks for it and the machine has it. False with errno.
 */
bool replace_devices(bool nsm, const char **subject);

#endif
