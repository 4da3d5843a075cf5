/*
 * The mounts of a machine. In a VM all of them are missing; in the local backend the launcher has made /proc, /sys
 * and /dev already. So each is made only where nothing is mounted, and each may fail: an image without /sys, or a
 * user namespace that may not mount, is a smaller machine and not a dead one.
 */
#include "mounts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/text.h"
#include "cgroups.h"
#include "log.h"

#define QUIET (MS_NOSUID | MS_NODEV | MS_NOEXEC)

struct mount_entry {
    const char *type;
    const char *target;
    unsigned long flags;
    const char *options;
    /* Options for a namespace in which the first ones name a gid that does not exist; NULL: none. */
    const char *fallback;
};

/*
 * In this order, parents first. Every tmpfs has a limit, because memory is the machine's only disk: /run holds
 * sockets and small state, /tmp and /dev/shm what services put there.
 */
static const struct mount_entry ENTRIES[] = {
    {"proc", "/proc", QUIET, NULL, NULL},
    {"sysfs", "/sys", QUIET, NULL, NULL},
    {"devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755", NULL},
    {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5",
     "newinstance,ptmxmode=0666,mode=0620"},
    {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777,size=128m", NULL},
    {"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755,size=64m", NULL},
    {"tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777,size=256m", NULL},
};

/* A directory on another device than its parent. (An initramfs is itself a tmpfs, so the type tells nothing.) */
bool is_mount_point(const char *path)
{
    char parent[64];
    struct stat here;
    struct stat above;
    snprintf(parent, sizeof parent, "%s/..", path);
    return stat(path, &here) == 0 && stat(parent, &above) == 0 && here.st_dev != above.st_dev;
}

static bool mount_entry(const struct mount_entry *entry)
{
    if (mount(entry->type, entry->target, entry->type, entry->flags, entry->options) == 0)
        return true;
    return errno == EINVAL && entry->fallback != NULL &&
           mount(entry->type, entry->target, entry->type, entry->flags, entry->fallback) == 0;
}

static void ensure_mount(const struct mount_entry *entry)
{
    /* A directory that is there already, or cannot be made, is for mount() to judge. */
    mkdir(entry->target, 0755);
    if (is_mount_point(entry->target) || mount_entry(entry) || errno == EBUSY)
        return;
    log_line("no %s on %s: %s", entry->type, entry->target, errno_name(errno));
}

static void ensure_link(const char *target, const char *path)
{
    if (symlink(target, path) == -1 && errno != EEXIST)
        log_line("no link %s: %s", path, errno_name(errno));
}

void mount_filesystems(void)
{
    for (size_t i = 0; i < sizeof ENTRIES / sizeof ENTRIES[0]; i++)
        ensure_mount(&ENTRIES[i]);
    ensure_link("/proc/self/fd", "/dev/fd");
    ensure_link("/proc/self/fd/0", "/dev/stdin");
    ensure_link("/proc/self/fd/1", "/dev/stdout");
    ensure_link("/proc/self/fd/2", "/dev/stderr");
    ensure_link("pts/ptmx", "/dev/ptmx");
    mount_cgroups();
}
