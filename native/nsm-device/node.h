#ifndef ENCLAVE_NSM_DEVICE_NODE_H
#define ENCLAVE_NSM_DEVICE_NODE_H

#include <stdbool.h>
#include <sys/types.h>

#define NODE_PATH "/dev/nsm"
/* "nsm" in the kernel's tables. The major number is one of those for local use, which no driver has. */
#define NODE_NAME "nsm"
#define NODE_MAJOR 120
#define NODE_MINOR 0

/* Makes /dev/nsm for the owner and the group, or gives them the one of an earlier start; false with errno. */
bool make_node(uid_t owner, gid_t group);

#endif
