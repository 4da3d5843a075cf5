#ifndef ENCLAVE_INIT_CGROUPS_H
#define ENCLAVE_INIT_CGROUPS_H

/*
 * Mounts the cgroup hierarchy of this kernel on /sys/fs/cgroup: version 2, else the controllers of version 1. What is
 * mounted there already stays.
 */
void mount_cgroups(void);

#endif
