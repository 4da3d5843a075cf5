/*
 * What a process hands to the next one is its descriptors; these functions make that set exact. Nothing here
 * allocates, so all of it may run between fork and exec.
 */
#include "descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436 /* the same number on every architecture; headers older than Linux 5.9 lack it */
#endif
#define CLOSE_AT_EXEC 4u /* CLOSE_RANGE_CLOEXEC */

bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) != -1;
}

bool is_directory(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
}

bool set_close_on_exec(int fd, bool on)
{
    return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) == 0;
}

bool set_non_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags != -1 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

void close_from(int first)
{
    if (syscall(SYS_close_range, (unsigned)first, UINT_MAX, 0) == 0)
        return;
    struct rlimit limit;
    int end = 65536;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 65536)
        end = (int)limit.rlim_cur;
    for (int fd = first; fd < end; fd++)
        close(fd);
}

bool close_from_at_exec(int first)
{
    return syscall(SYS_close_range, (unsigned)first, UINT_MAX, CLOSE_AT_EXEC) == 0;
}

bool place_descriptor(int fd, int target)
{
    if (fd == target)
        return set_close_on_exec(fd, false);
    return dup2(fd, target) == target;
}

bool silence_stdin(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd == -1 || !place_descriptor(fd, STDIN_FILENO))
        return false;
    if (fd != STDIN_FILENO)
        close(fd);
    return true;
}

bool write_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(fd, bytes, length);
        if (written == -1 && errno == EINTR)
            continue;
        if (written == -1)
            return false;
        bytes += written;
        length -= (size_t)written;
    }
    return true;
}
