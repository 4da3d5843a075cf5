/*
 * The one ioctl of an NSM, _IOWR(0x0A, 0, 32 bytes), whose argument points to
 *
 *   0   u64 address of the request     8   u64 length of the request, at most 0x1000
 *   16  u64 address for the response   24  u64 room there; afterwards what was used
 *
 * Only the kernel may touch the caller's memory. It is told what to copy by FUSE_IOCTL_RETRY with two lists of pieces,
 * those to read and those to write, and then sends the ioctl again. The program keeps nothing between the turns; what
 * turn it is, the sizes tell:
 *
 *   turn 1   nothing in, no room for anything out   ->  read the argument
 *   turn 2   32 bytes in, no room                   ->  read the request; write the argument's last word, the response
 *   turn 3   the request in, room for 8 bytes or more
 *
 * What is told of the response goes first, so that a short response is contiguous with it. A response that does not
 * fit is cut, as the driver of the real device does.
 */
#include "ioctl.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define NSM_IOCTL 0xC0200A00u

struct argument {
    uint64_t request;
    uint64_t request_length;
    uint64_t response;
    uint64_t response_room;
};

#define USED_OFFSET offsetof(struct argument, response_room)
#define USED_BYTES sizeof(uint64_t)

static bool answer_retry(int channel, uint64_t unique, const struct fuse_ioctl_iovec *pieces, uint32_t in, uint32_t out)
{
    const struct fuse_ioctl_out result = {.flags = FUSE_IOCTL_RETRY, .in_iovs = in, .out_iovs = out};
    const struct part parts[] = {{&result, sizeof result}, {pieces, (in + out) * sizeof *pieces}};
    return answer(channel, unique, parts, 2);
}

static bool ask_argument(int channel, uint64_t unique, const struct fuse_ioctl_in *in)
{
    const struct fuse_ioctl_iovec piece = {.base = in->arg, .len = sizeof(struct argument)};
    return answer_retry(channel, unique, &piece, 1, 0);
}

static bool ask_request(int channel, uint64_t unique, const struct fuse_ioctl_in *in, const uint8_t *bytes)
{
    struct argument argument;
    memcpy(&argument, bytes, sizeof argument);
    if (argument.request_length > NSM_REQUEST_MAX_BYTES)
        return answer_error(channel, unique, EMSGSIZE);
    /* The real driver would hand it on, and no device takes buffers without bytes; nor has the stream such frames. */
    if (argument.request_length == 0)
        return answer_error(channel, unique, EINVAL);
    if (argument.response_room > NSM_RESPONSE_MAX_BYTES)
        argument.response_room = NSM_RESPONSE_MAX_BYTES;
    const struct fuse_ioctl_iovec pieces[] = {
        {.base = argument.request, .len = argument.request_length},
        {.base = in->arg + USED_OFFSET, .len = USED_BYTES},
        {.base = argument.response, .len = argument.response_room},
    };
    return answer_retry(channel, unique, pieces, 1, 2);
}

static void keep_call(const struct message *message, const struct fuse_ioctl_in *in, struct calls *calls)
{
    struct call *call = add_call(calls);
    call->unique = message->header.unique;
    call->caller = message->header.pid;
    call->interrupted = false;
    call->room = in->out_size - USED_BYTES;
    call->length = in->in_size;
    memcpy(call->request, message->body + sizeof *in, in->in_size);
}

bool take_ioctl(int channel, const struct message *message, struct calls *calls)
{
    struct fuse_ioctl_in in;
    const uint64_t unique = message->header.unique;
    if (body_length(message) < sizeof in)
        return answer_error(channel, unique, EIO);
    memcpy(&in, message->body, sizeof in);
    if (in.cmd != NSM_IOCTL)
        return answer_error(channel, unique, EINVAL);
    if (body_length(message) != sizeof in + in.in_size)
        return answer_error(channel, unique, EIO);
    if (in.out_size == 0 && in.in_size == 0)
        return ask_argument(channel, unique, &in);
    if (in.out_size == 0 && in.in_size == sizeof(struct argument))
        return ask_request(channel, unique, &in, message->body + sizeof in);
    if (in.in_size == 0 || in.in_size > NSM_REQUEST_MAX_BYTES || in.out_size < USED_BYTES)
        return answer_error(channel, unique, EIO);
    keep_call(message, &in, calls);
    return true;
}

bool answer_call(int channel, const struct call *call, const uint8_t *bytes, size_t length)
{
    const struct fuse_ioctl_out result = {.result = 0};
    const uint64_t used = length < call->room ? length : call->room;
    const struct part parts[] = {{&result, sizeof result}, {&used, sizeof used}, {bytes, used}};
    return answer(channel, call->unique, parts, 3);
}
