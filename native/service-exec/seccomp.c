/*
 * The seccomp filter: a file of `struct sock_filter`, eight bytes an instruction in the machine's own byte order, as
 * the TypeScript side assembled it. Whether it is a program, the kernel judges.
 */
#include "seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Reads to the end, or until the room is full; answers the bytes, -1 with errno. */
static ssize_t read_to_end(int fd, char *bytes, size_t size)
{
    size_t used = 0;
    while (used < size) {
        ssize_t count = read(fd, bytes + used, size - used);
        if (count == -1 && errno == EINTR)
            continue;
        if (count == -1)
            return -1;
        if (count == 0)
            break;
        used += (size_t)count;
    }
    return (ssize_t)used;
}

/* True if nothing follows. */
static bool is_at_end(int fd)
{
    char byte;
    if (read(fd, &byte, 1) == 0)
        return true;
    errno = EFBIG;
    return false;
}

bool read_filter(struct request *request)
{
    if (request->filter_path == NULL)
        return true;
    request->subject = request->filter_path;
    int fd = open(request->filter_path, O_RDONLY | O_CLOEXEC);
    if (fd == -1)
        return false;
    ssize_t length = read_to_end(fd, (char *)request->filter, sizeof request->filter);
    bool whole = length != -1 && is_at_end(fd);
    int number = errno;
    close(fd);
    errno = number;
    if (!whole)
        return false;
    request->filter_length = (size_t)length / sizeof request->filter[0];
    errno = EINVAL;
    return length > 0 && (size_t)length % sizeof request->filter[0] == 0;
}

bool install_filter(struct request *request)
{
    if (request->filter_path == NULL)
        return true;
    request->subject = request->filter_path;
    struct sock_fprog program = {.len = (unsigned short)request->filter_length, .filter = request->filter};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}
