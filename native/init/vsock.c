/*
 * The way out of the machine, in its two forms:
 *   AF_VSOCK  to CID 3, the parent instance, as AWS's init does (a Linux parent is CID 3 on Nitro, 2 elsewhere; our
 *             QEMU device takes both)
 *   Unix      <directory>/vsock.sock_<port>, the hybrid form, where the launcher passed the directory as descriptor 3
 */
#include "vsock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "../common/clock.h"
#include "../common/layout.h"

#define CID_PARENT 3

bool wait_ready(int fd, short events, int64_t deadline_ms)
{
    struct pollfd ready = {.fd = fd, .events = events};
    for (;;) {
        int count = poll(&ready, 1, ms_until(deadline_ms));
        if (count > 0)
            return true;
        if (count == 0)
            errno = ETIMEDOUT;
        if (count == 0 || errno != EINTR)
            return false;
    }
}

static bool finish_connect(int fd, int64_t deadline_ms)
{
    int number = 0;
    socklen_t length = sizeof number;
    if (errno != EINPROGRESS || !wait_ready(fd, POLLOUT, deadline_ms))
        return false;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &length) == -1)
        return false;
    errno = number;
    return number == 0;
}

static int connect_address(const struct sockaddr *address, socklen_t length, int64_t deadline_ms)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd == -1)
        return -1;
    if (connect(fd, address, length) == 0 || finish_connect(fd, deadline_ms))
        return fd;
    int number = errno;
    close(fd);
    errno = number;
    return -1;
}

int connect_host(bool local, unsigned port, int64_t deadline_ms)
{
    if (local) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s%u", SUPERVISOR_FD_VSOCK_DIRECTORY,
                 VSOCK_HOST_SOCKET_PREFIX, port);
        return connect_address((const struct sockaddr *)&address, sizeof address, deadline_ms);
    }
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = CID_PARENT, .svm_port = port};
    return connect_address((const struct sockaddr *)&address, sizeof address, deadline_ms);
}
