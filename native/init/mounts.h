#ifndef ENCLAVE_INIT_MOUNTS_H
#define ENCLAVE_INIT_MOUNTS_H

#include <stdbool.h>

/* Mounts what the machine needs and does not have yet. What cannot be mounted is logged and left out. */
void mount_filesystems(void);

/* True if something is mounted there. */
bool is_mount_point(const char *path);

#endif
