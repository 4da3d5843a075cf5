/*
 * A minimal /dev. A user namespace cannot make device nodes, so the machine's own are bound: opened before the new
 * file system covers them, and bound from their descriptors. The security module is bound only for who asks for it.
 */
#include "devices.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define NODE_COUNT 7
#define COMMON_COUNT 6
#define TERMINALS "newinstance,ptmxmode=0666,mode=0620"

static const char *const NODES[NODE_COUNT] = {"/dev/null",   "/dev/zero",    "/dev/full",
                                              "/dev/random", "/dev/urandom", "/dev/tty",
                                              "/dev/nsm"};

static const struct {
    const char *target;
    const char *path;
} LINKS[] = {
    {"/proc/self/fd", "/dev/fd"},         {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"},
    {"/proc/self/fd/2", "/dev/stderr"},   {"pts/ptmx", "/dev/ptmx"},
};

/* A descriptor of the node, or -1: a machine without it, or with something else in its place, has none. */
static int open_node(const char *path)
{
    struct stat status;
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd == -1 || (fstat(fd, &status) == 0 && S_ISCHR(status.st_mode)))
        return fd;
    close(fd);
    return -1;
}

static bool bind_node(int node, const char *path)
{
    char source[32];
    int file = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    if (file == -1)
        return false;
    close(file);
    snprintf(source, sizeof source, "/proc/self/fd/%d", node);
    return mount(source, path, NULL, MS_BIND, NULL) == 0;
}

static bool bind_nodes(const int *nodes, const char **subject)
{
    for (size_t i = 0; i < NODE_COUNT; i++) {
        if (nodes[i] == -1)
            continue;
        *subject = NODES[i];
        bool bound = bind_node(nodes[i], NODES[i]);
        int number = errno;
        close(nodes[i]);
        errno = number;
        if (!bound)
            return false;
    }
    return true;
}

/* The group of terminals does not exist in a user namespace of one gid. */
static bool mount_terminals(const char **subject)
{
    const unsigned long flags = MS_NOSUID | MS_NOEXEC;
    *subject = "/dev/pts";
    if (mkdir("/dev/pts", 0755) == -1)
        return false;
    if (mount("devpts", "/dev/pts", "devpts", flags, TERMINALS ",gid=5") == 0)
        return true;
    return errno == EINVAL && mount("devpts", "/dev/pts", "devpts", flags, TERMINALS) == 0;
}

static bool mount_memory(const char **subject)
{
    *subject = "/dev/shm";
    return mkdir("/dev/shm", 01777) == 0 &&
           mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=64m") == 0;
}

static bool make_links(const char **subject)
{
    for (size_t i = 0; i < sizeof LINKS / sizeof LINKS[0]; i++) {
        *subject = LINKS[i].path;
        if (symlink(LINKS[i].target, LINKS[i].path) == -1)
            return false;
    }
    return true;
}

bool replace_devices(bool nsm, const char **subject)
{
    int nodes[NODE_COUNT];
    for (size_t i = 0; i < NODE_COUNT; i++)
        nodes[i] = i < COMMON_COUNT || nsm ? open_node(NODES[i]) : -1;
    *subject = "/dev";
    return mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k") == 0 &&
           bind_nodes(nodes, subject) && mount_terminals(subject) && mount_memory(subject) && make_links(subject);
}
