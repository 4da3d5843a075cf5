/*
 * A request is sent once and never again: it may be one that extends a register. The exception is a connection that
 * the host closed while nothing was asked, which is only seen when the first byte cannot be sent.
 */
#include "host.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "../common/clock.h"

#define CID_PARENT 3
/* The kernel gives up a connection after two seconds by itself; ours is the request's time. */
#define KERNEL_CONNECT_TIMEOUT_S 3600

bool is_host_busy(const struct host *host)
{
    return host->state != HOST_AWAY && host->state != HOST_IDLE;
}

short host_events(const struct host *host)
{
    return host->state == HOST_CONNECTING || host->state == HOST_SENDING ? POLLOUT : POLLIN;
}

const uint8_t *answered_bytes(const struct host *host)
{
    return host->frame + FRAME_HEADER_BYTES;
}

size_t answered_length(const struct host *host)
{
    return host->length - FRAME_HEADER_BYTES;
}

void drop_host(struct host *host)
{
    int number = errno;
    if (host->fd != -1)
        close(host->fd);
    host->fd = -1;
    host->state = HOST_AWAY;
    errno = number;
}

static enum progress fail(struct host *host, int number)
{
    drop_host(host);
    errno = number;
    return HOST_FAILED;
}

static uint32_t read_length(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static enum progress receive(struct host *host)
{
    while (host->at < host->length) {
        ssize_t count = recv(host->fd, host->frame + host->at, host->length - host->at, 0);
        if (count == -1 && (errno == EAGAIN || errno == EINTR))
            return HOST_WAITS;
        if (count <= 0)
            return fail(host, EIO);
        host->at += (size_t)count;
        if (host->at != FRAME_HEADER_BYTES)
            continue;
        uint32_t length = read_length(host->frame);
        if (length == 0 || length > NSM_RESPONSE_MAX_BYTES)
            return fail(host, EIO);
        host->length = FRAME_HEADER_BYTES + length;
    }
    host->state = HOST_IDLE;
    return HOST_ANSWERED;
}

static enum progress connect_host(struct host *host);

static enum progress send_frame(struct host *host)
{
    while (host->at < host->length) {
        ssize_t count = send(host->fd, host->frame + host->at, host->length - host->at, MSG_NOSIGNAL);
        if (count == -1 && (errno == EAGAIN || errno == EINTR))
            return HOST_WAITS;
        if (count == -1 && host->reused) {
            drop_host(host);
            return connect_host(host);
        }
        if (count == -1)
            return fail(host, EIO);
        host->reused = false;
        host->at += (size_t)count;
    }
    host->state = HOST_RECEIVING;
    host->at = 0;
    host->length = FRAME_HEADER_BYTES;
    return receive(host);
}

static enum progress finish_connect(struct host *host)
{
    int number = 0;
    socklen_t length = sizeof number;
    if (getsockopt(host->fd, SOL_SOCKET, SO_ERROR, &number, &length) == -1 || number != 0)
        return fail(host, EIO);
    host->state = HOST_SENDING;
    return send_frame(host);
}

static enum progress connect_host(struct host *host)
{
    const struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_cid = CID_PARENT, .svm_port = PORT_DEVELOPMENT_NSM};
    const struct timeval timeout = {.tv_sec = KERNEL_CONNECT_TIMEOUT_S};
    host->reused = false;
    host->fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (host->fd == -1)
        return fail(host, EIO);
    /* Without it the wait is shorter, not wrong. */
    setsockopt(host->fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &timeout, sizeof timeout);
    host->state = HOST_CONNECTING;
    if (connect(host->fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return finish_connect(host);
    return errno == EINPROGRESS ? HOST_WAITS : fail(host, EIO);
}

enum progress ask_host(struct host *host, const uint8_t *request, size_t length)
{
    const uint8_t header[FRAME_HEADER_BYTES] = {0, 0, (uint8_t)(length >> 8), (uint8_t)length};
    memcpy(host->frame, header, sizeof header);
    memcpy(host->frame + sizeof header, request, length);
    host->length = sizeof header + length;
    host->at = 0;
    host->deadline_ms = now_ms() + host->timeout_ms;
    if (host->state == HOST_AWAY)
        return connect_host(host);
    host->reused = true;
    host->state = HOST_SENDING;
    return send_frame(host);
}

enum progress continue_host(struct host *host, bool ready)
{
    /* First: a host that sends a byte now and then is always ready. */
    if (ms_until(host->deadline_ms) == 0)
        return fail(host, ETIMEDOUT);
    if (!ready)
        return HOST_WAITS;
    if (host->state == HOST_CONNECTING)
        return finish_connect(host);
    return host->state == HOST_SENDING ? send_frame(host) : receive(host);
}
