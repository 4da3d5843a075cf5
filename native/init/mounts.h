#ifndef ENCLAVE_INIT_MOUNTS_H
#define ENCLAVE_INIT_MOUNTS_H

/* Mounts what the machine needs and does not have yet. What cannot be mounted is logged and left out. */
void mount_filesystems(void);

#endif
