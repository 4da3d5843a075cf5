/*
 * The node is made here and not left to the kernel, which would take its own away whenever this program ends: a
 * service that has bound that into its own /dev would keep a dead file for ever. This one stays, always for the same
 * device number. While the program is away, opening it says ENXIO, or ENODEV where somebody still holds it open.
 */
#include "node.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static bool ensure_node(void)
{
    const dev_t number = makedev(NODE_MAJOR, NODE_MINOR);
    struct stat status;
    if (lstat(NODE_PATH, &status) == -1)
        return errno == ENOENT && mknod(NODE_PATH, S_IFCHR | 0600, number) == 0;
    errno = EEXIST;
    /* The kernel's own: this machine has the real device. */
    return S_ISCHR(status.st_mode) && status.st_rdev == number;
}

bool make_node(uid_t owner, gid_t group)
{
    return ensure_node() && chown(NODE_PATH, owner, group) == 0 && chmod(NODE_PATH, 0660) == 0;
}
