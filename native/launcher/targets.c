/*
 * Mount points in the new root. The image is not ours: its symbolic links are followed as if its root were "/", so
 * that `proc -> ../../etc` or the like cannot lead the launcher astray.
 */
#include "targets.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mount-api.h"
#include "report.h"

static int make_entry(int parent, const char *name, bool directory)
{
    if (directory)
        return mkdirat(parent, name, 0755);
    int fd = openat(parent, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd == -1)
        return -1;
    close(fd);
    return 0;
}

/* Opens one prefix of the path, made first if missing. `parent` is the descriptor of the prefix before. */
static int open_or_make(int root, int parent, const char *prefix, bool directory)
{
    int fd = open_beneath(root, prefix, O_PATH);
    if (fd != -1 || errno != ENOENT)
        return fd;
    const char *slash = strrchr(prefix, '/');
    if (make_entry(parent, slash == NULL ? prefix : slash + 1, directory) == -1)
        return -1;
    return open_beneath(root, prefix, O_PATH);
}

int open_target(int root, const char *path, bool directory, const char *step)
{
    char prefix[PATH_MAX];
    const char *relative = path + strspn(path, "/");
    if (strlen(relative) >= sizeof prefix) {
        errno = ENAMETOOLONG;
        fail(step, path);
    }
    int parent = root;
    for (size_t end = 0; relative[end] != '\0';) {
        end += strspn(relative + end, "/");
        end += strcspn(relative + end, "/");
        memcpy(prefix, relative, end);
        prefix[end] = '\0';
        bool last = relative[end] == '\0';
        int fd = open_or_make(root, parent, prefix, directory || !last);
        if (fd == -1)
            fail(step, path);
        if (parent != root)
            close(parent);
        parent = fd;
    }
    return parent;
}
