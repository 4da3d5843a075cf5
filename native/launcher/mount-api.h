#ifndef ENCLAVE_LAUNCHER_MOUNT_API_H
#define ENCLAVE_LAUNCHER_MOUNT_API_H

#include <stdbool.h>
#include <stdint.h>

/* A key and value of a new file system; a switch has a NULL value; a list ends with a NULL key. */
struct mount_option {
    const char *key;
    const char *value;
};

/* Attributes of a mount (<linux/mount.h>, MOUNT_ATTR_*). */
#define ATTR_RDONLY 0x1u
#define ATTR_NOSUID 0x2u
#define ATTR_NODEV 0x4u
#define ATTR_NOEXEC 0x8u

/* A new file system of `type`, not attached yet, as a close-on-exec descriptor of its root; -1 with errno. */
int make_mount(const char *type, const struct mount_option *options, unsigned attributes);

/* A detached copy of what lies at `path`, with everything mounted below if `recursive`; -1 with errno. */
int copy_mount(const char *path, bool recursive);

/* Adds attributes to a mount and everything below it; those that are locked stay. */
int restrict_mount(int mount, unsigned attributes);

/* Attaches `mount` on the file or directory `target`, an O_PATH descriptor. */
int attach_mount(int mount, int target);

/* Opens `path` (relative to `root`, O_PATH) as if `root` were "/": no symbolic link leads out of it. */
int open_beneath(int root, const char *path, uint64_t flags);

#endif
