/*
 * The kernel's mount interface on descriptors (Linux 5.12), instead of mount(2) on paths, for three reasons:
 *   - a path must be walked, and the namespace's root may not search the caller's 0700 directories; a descriptor
 *     that was opened before the change of identity needs no walk;
 *   - paths may hold ':' and ',', which the option syntax of overlay cannot carry without escapes;
 *   - a detached copy of one directory has no parent, so ".." from a descriptor of it leads nowhere.
 *
 * Called by number, because glibc has wrappers only since 2.36 and <linux/mount.h> clashes with <sys/mount.h>.
 * Source of numbers and constants: include/uapi/asm-generic/unistd.h, linux/mount.h, linux/openat2.h.
 */
#include "mount-api.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The same on every architecture. */
enum {
    NUMBER_OPEN_TREE = 428,
    NUMBER_MOVE_MOUNT = 429,
    NUMBER_FSOPEN = 430,
    NUMBER_FSCONFIG = 431,
    NUMBER_FSMOUNT = 432,
    NUMBER_OPENAT2 = 437,
    NUMBER_MOUNT_SETATTR = 442,
};

#define FLAG_FSOPEN_CLOEXEC 0x1u
#define FLAG_FSMOUNT_CLOEXEC 0x1u
#define COMMAND_SET_FLAG 0u
#define COMMAND_SET_STRING 1u
#define COMMAND_CREATE 6u
#define FLAG_TREE_CLONE 0x1u
#define FLAG_TREE_RECURSIVE 0x8000u
#define FLAG_MOVE_FROM_EMPTY 0x4u
#define FLAG_MOVE_TO_EMPTY 0x40u
#define FLAG_EMPTY_PATH 0x1000u
#define RESOLVE_AS_ROOT (0x10u | 0x02u) /* IN_ROOT | NO_MAGICLINKS */

struct mount_attributes {
    uint64_t set;
    uint64_t clear;
    uint64_t propagation;
    uint64_t user_namespace;
};

struct open_how_to {
    uint64_t flags;
    uint64_t mode;
    uint64_t resolve;
};

/* Closes `fd` and keeps errno. */
static int drop(int fd)
{
    int number = errno;
    close(fd);
    errno = number;
    return -1;
}

int make_mount(const char *type, const struct mount_option *options, unsigned attributes)
{
    int context = (int)syscall(NUMBER_FSOPEN, type, FLAG_FSOPEN_CLOEXEC);
    if (context == -1)
        return -1;
    for (const struct mount_option *option = options; option->key != NULL; option++) {
        unsigned command = option->value == NULL ? COMMAND_SET_FLAG : COMMAND_SET_STRING;
        if (syscall(NUMBER_FSCONFIG, context, command, option->key, option->value, 0) == -1)
            return drop(context);
    }
    if (syscall(NUMBER_FSCONFIG, context, COMMAND_CREATE, NULL, NULL, 0) == -1)
        return drop(context);
    int mount = (int)syscall(NUMBER_FSMOUNT, context, FLAG_FSMOUNT_CLOEXEC, attributes);
    drop(context);
    return mount;
}

int copy_mount(const char *path, bool recursive)
{
    unsigned flags = FLAG_TREE_CLONE | O_CLOEXEC | (recursive ? FLAG_TREE_RECURSIVE : 0);
    return (int)syscall(NUMBER_OPEN_TREE, AT_FDCWD, path, flags);
}

int restrict_mount(int mount, unsigned attributes)
{
    struct mount_attributes wanted = {.set = attributes};
    return (int)syscall(NUMBER_MOUNT_SETATTR, mount, "", FLAG_EMPTY_PATH | FLAG_TREE_RECURSIVE, &wanted,
                        sizeof wanted);
}

int attach_mount(int mount, int target)
{
    return (int)syscall(NUMBER_MOVE_MOUNT, mount, "", target, "", FLAG_MOVE_FROM_EMPTY | FLAG_MOVE_TO_EMPTY);
}

int open_beneath(int root, const char *path, uint64_t flags)
{
    struct open_how_to how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_AS_ROOT};
    return (int)syscall(NUMBER_OPENAT2, root, path, &how, sizeof how);
}
