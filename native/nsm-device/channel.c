/*
 * CUSE speaks FUSE (linux/fuse.h) over /dev/cuse, packets in the machine's byte order, one a read and one a write:
 *
 *   kernel:  fuse_in_header | body        header.unique names the request
 *   program: fuse_out_header | body       the same unique; a negative errno and no body, or 0
 *
 * The first request is CUSE_INIT; its answer has the device's number and name. The kernel makes the device while it
 * takes that answer, so that it is there when write() returns; if it could not, the channel is in error afterwards.
 */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../common/clock.h"
#include "node.h"

#define CHANNEL_PATH "/dev/cuse"
#define GREETING_TIMEOUT_MS 5000
#define OLDEST_MINOR 16
#define MAX_PARTS 4
/* Of read() and write(), which the device does not have: the least that the kernel takes. */
#define TRANSFER_BYTES 4096

int open_channel(void)
{
    return open(CHANNEL_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK);
}

size_t body_length(const struct message *message)
{
    return message->header.len - sizeof message->header;
}

enum reading read_message(int channel, struct message *message)
{
    ssize_t length = read(channel, message, sizeof *message);
    if (length == -1) {
        /* ENOENT: the caller gave up while it was read. */
        bool none = errno == EAGAIN || errno == EINTR || errno == ENOENT;
        return none ? MESSAGE_NONE : MESSAGE_FAILED;
    }
    if ((size_t)length >= sizeof message->header && message->header.len == (size_t)length)
        return MESSAGE_READ;
    errno = EPROTO;
    return MESSAGE_FAILED;
}

static bool write_answer(int channel, const struct iovec *vector, int count)
{
    ssize_t length;
    do
        length = writev(channel, vector, count);
    while (length == -1 && errno == EINTR);
    return length != -1 || errno == ENOENT;
}

bool answer(int channel, uint64_t unique, const struct part *parts, size_t count)
{
    struct fuse_out_header header = {.len = sizeof header, .unique = unique};
    struct iovec vector[MAX_PARTS + 1] = {{.iov_base = &header, .iov_len = sizeof header}};
    for (size_t i = 0; i < count && i < MAX_PARTS; i++) {
        vector[i + 1] = (struct iovec){.iov_base = (void *)parts[i].bytes, .iov_len = parts[i].length};
        header.len += (uint32_t)parts[i].length;
    }
    return write_answer(channel, vector, (int)count + 1);
}

bool answer_error(int channel, uint64_t unique, int number)
{
    struct fuse_out_header header = {.len = sizeof header, .error = -number, .unique = unique};
    const struct iovec vector = {.iov_base = &header, .iov_len = sizeof header};
    return write_answer(channel, &vector, 1);
}

static bool await_greeting(int channel, struct message *message)
{
    struct pollfd ready = {.fd = channel, .events = POLLIN};
    int64_t deadline_ms = now_ms() + GREETING_TIMEOUT_MS;
    for (;;) {
        enum reading reading = read_message(channel, message);
        if (reading != MESSAGE_NONE)
            return reading == MESSAGE_READ;
        errno = ETIMEDOUT;
        if (ms_until(deadline_ms) == 0 || (poll(&ready, 1, ms_until(deadline_ms)) == -1 && errno != EINTR))
            return false;
    }
}

static bool is_connected(int channel)
{
    struct pollfd ready = {.fd = channel, .events = POLLIN};
    if (poll(&ready, 1, 0) == -1 && errno != EINTR)
        return false;
    errno = ENODEV;
    return (ready.revents & (POLLERR | POLLHUP)) == 0;
}

bool create_device(int channel)
{
    static const char information[] = "DEVNAME=" NODE_NAME;
    static struct message message;
    struct cuse_init_in in;
    if (!await_greeting(channel, &message))
        return false;
    errno = EPROTO;
    if (message.header.opcode != CUSE_INIT || body_length(&message) < sizeof in)
        return false;
    memcpy(&in, message.body, sizeof in);
    if (in.major != FUSE_KERNEL_VERSION || in.minor < OLDEST_MINOR || (in.flags & CUSE_UNRESTRICTED_IOCTL) == 0)
        return false;
    const struct cuse_init_out out = {
        .major = FUSE_KERNEL_VERSION,
        .minor = in.minor < FUSE_KERNEL_MINOR_VERSION ? in.minor : FUSE_KERNEL_MINOR_VERSION,
        .flags = CUSE_UNRESTRICTED_IOCTL,
        .max_read = TRANSFER_BYTES,
        .max_write = TRANSFER_BYTES,
        .dev_major = NODE_MAJOR,
        .dev_minor = NODE_MINOR,
    };
    const struct part parts[] = {{&out, sizeof out}, {information, sizeof information}};
    return answer(channel, message.header.unique, parts, 2) && is_connected(channel);
}
