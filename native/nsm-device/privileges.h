#ifndef ENCLAVE_NSM_DEVICE_PRIVILEGES_H
#define ENCLAVE_NSM_DEVICE_PRIVILEGES_H

#include <stdbool.h>
#include <sys/types.h>

/* Becomes uid and gid for good, and dies with `parent`; false with errno. */
bool drop_privileges(uid_t uid, gid_t gid, pid_t parent);

#endif
