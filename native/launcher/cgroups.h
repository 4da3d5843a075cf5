#ifndef ENCLAVE_LAUNCHER_CGROUPS_H
#define ENCLAVE_LAUNCHER_CGROUPS_H

#include <sys/types.h>

#include "options.h"
#include "sources.h"

/* On the host: opens the list of members of every cgroup that is delegated, into `members` (MAX_CGROUPS). */
void open_cgroups(const struct options *options, int *members);

/* On the host: moves the child into them, and closes the lists. */
void move_into_cgroups(const struct options *options, const int *members, pid_t child);

/* In the child, after it was moved: makes its cgroups the roots of what it sees. */
void enter_cgroup_namespace(void);

/* In the child: attaches the delegated directories at /sys/fs/cgroup of the new root. */
void mount_cgroups(int root, const struct options *options, const struct sources *sources);

#endif
