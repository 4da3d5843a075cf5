/*
 * /etc/resolv.conf (man 5 resolv.conf). An image may have a file there, or a link to one that only another machine has,
 * so it is replaced and never written through. In the local backend /etc is that of the overlay: what changes is the
 * copy, never the image. An /etc that belongs to nobody of this user namespace, or is read-only, gets a file of /run
 * mounted over what it has.
 */
#include "resolver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/descriptors.h"
#include "../common/layout.h"
#include "../common/text.h"
#include "log.h"

#define RESOLV_CONF "/etc/resolv.conf"
#define SUBSTITUTE "/run/resolv.conf"

/* `ndots:1`: a name with a dot is tried as it is. The resolver is near: what it does not answer in 2 s, it never will. */
static const char TEXT[] = "nameserver " RESOLVER_ADDRESS "\noptions ndots:1 timeout:2 attempts:2\n";

/* Replaces what is there, a link too; false with errno. */
static bool write_anew(const char *path)
{
    if (unlink(path) == -1 && errno != ENOENT)
        return false;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd == -1)
        return false;
    bool written = write_all(fd, TEXT, strlen(TEXT));
    int number = errno;
    close(fd);
    errno = number;
    return written;
}

/* Nothing can be mounted over a link, and its target is another file: ELOOP. */
static bool cover(void)
{
    char target[64];
    struct stat status;
    int fd = open(RESOLV_CONF, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd == -1)
        return false;
    snprintf(target, sizeof target, "/proc/self/fd/%d", fd);
    bool is_link = fstat(fd, &status) == 0 && S_ISLNK(status.st_mode);
    bool covered = !is_link && write_anew(SUBSTITUTE) && mount(SUBSTITUTE, target, NULL, MS_BIND, NULL) == 0;
    int number = is_link ? ELOOP : errno;
    close(fd);
    errno = number;
    return covered;
}

void name_resolver(void)
{
    mkdir("/etc", 0755);
    if (write_anew(RESOLV_CONF))
        return;
    int number = errno;
    if (!cover())
        log_line("no " RESOLV_CONF ": %s, and nothing mounted over it: %s", errno_name(number), errno_name(errno));
}
