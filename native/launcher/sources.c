/*
 * The last look at the host: every path of the command line is walked here, once, in the new mount namespace (the
 * kernel refuses to mount what belongs to another) but still as the caller, who may search his own directories.
 *
 * The vsock directory becomes a detached copy of that one directory. A plain descriptor of it would be a door: ".."
 * from it walks up into the host's file system even after the old root is gone.
 */
#include "sources.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#include "../common/descriptors.h"
#include "mount-api.h"
#include "report.h"

const char *const DEVICE_NAMES[DEVICE_COUNT] = {"null", "zero", "full", "random", "urandom", "tty"};

static int open_directory(const char *path, const char *step)
{
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd == -1)
        fail(step, path);
    return fd;
}

static int copy_directory(const char *path, const char *step)
{
    int fd = copy_mount(path, false);
    if (fd == -1)
        fail(step, path);
    if (!is_directory(fd)) {
        errno = ENOTDIR;
        fail(step, path);
    }
    return fd;
}

static int copy_bind(const char *source)
{
    int fd = copy_mount(source, true);
    if (fd == -1 || restrict_mount(fd, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV) == -1)
        fail("bind", source);
    return fd;
}

static int copy_cgroup(const char *directory)
{
    int fd = copy_directory(directory, "cgroup");
    if (restrict_mount(fd, ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC) == -1)
        fail("cgroup", directory);
    return fd;
}

static int copy_device(const char *name)
{
    char path[32];
    snprintf(path, sizeof path, "/dev/%s", name);
    int fd = copy_mount(path, false);
    /* A container without a terminal has no /dev/tty; nothing depends on it. */
    if (fd == -1 && errno != ENOENT)
        fail("device", path);
    return fd;
}

void open_sources(const struct options *options, struct sources *sources)
{
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1)
        fail("private", "/");
    sources->tree = open_directory(options->root, "root");
    sources->scratch = open_directory(options->scratch, "scratch");
    sources->vsock = copy_directory(options->vsock_directory, "vsock_dir");
    for (size_t i = 0; i < DEVICE_COUNT; i++)
        sources->devices[i] = copy_device(DEVICE_NAMES[i]);
    for (size_t i = 0; i < options->bind_count; i++) {
        sources->binds[i] = copy_bind(options->binds[i].source);
        sources->bind_is_directory[i] = is_directory(sources->binds[i]);
    }
    for (size_t i = 0; i < options->cgroup_count; i++)
        sources->cgroups[i] = copy_cgroup(options->cgroups[i].directory);
}
