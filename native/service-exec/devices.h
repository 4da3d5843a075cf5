#ifndef ENCLAVE_SERVICE_EXEC_DEVICES_H
#define ENCLAVE_SERVICE_EXEC_DEVICES_H

#include <stdbool.h>

/* Covers /dev with one that has only harmless nodes, terminals of its own and its own /dev/shm; false with errno. */
bool replace_devices(const char **subject);

#endif
