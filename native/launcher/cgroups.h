#ifndef ENCLAVE_LAUNCHER_CGROUPS_H
#define ENCLAVE_LAUNCHER_CGROUPS_H

#include <sys/types.h>

#include "options.h"
#include "sources.h"

/* On the host: moves the child into every cgroup that is delegated to it. */
void move_into_cgroups(const struct options *options, pid_t child);

/* In the child, after it was moved: makes its cgroups the roots of what it sees. */
void enter_cgroup_namespace(void);

/* In the child: attaches the delegated directories at /sys/fs/cgroup of the new root. */
void mount_cgroups(int root, const struct options *options, const struct sources *sources);

#endif
