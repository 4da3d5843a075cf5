#include "messages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "values.h"

#define MAX_DESCRIPTORS 8
#define MAX_MESSAGE_BYTES 65536

union control {
    char bytes[CMSG_SPACE(MAX_DESCRIPTORS * sizeof(int))];
    struct cmsghdr align;
};

struct received {
    int fds[MAX_DESCRIPTORS];
    size_t count;
};

static void close_all(const struct received *received)
{
    for (size_t i = 0; i < received->count; i++)
        close(received->fds[i]);
}

static void collect(struct msghdr *message, struct received *received)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count && received->count < MAX_DESCRIPTORS; i++) {
            int *fd = &received->fds[received->count++];
            memcpy(fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            /* The sender chose its flags; ours is a loop that must not wait. */
            fcntl(*fd, F_SETFL, fcntl(*fd, F_GETFL) | O_NONBLOCK);
        }
    }
}

static napi_value give_message(napi_env env, napi_value bytes, const struct received *received)
{
    napi_value result = NULL;
    napi_value list = NULL;
    napi_create_array_with_length(env, received->count, &list);
    for (size_t i = 0; i < received->count; i++)
        napi_set_element(env, list, (uint32_t)i, give_number(env, received->fds[i]));
    napi_create_object(env, &result);
    napi_set_named_property(env, result, "bytes", bytes);
    napi_set_named_property(env, result, "descriptors", list);
    return result;
}

/* receiveMessage(fd, maxBytes, maxDescriptors): undefined where it would block; no bytes at the end of the stream. */
napi_value receive_message(napi_env env, napi_callback_info info)
{
    napi_value values[MAX_ARGUMENTS];
    uint8_t buffer[MAX_MESSAGE_BYTES];
    napi_value bytes = NULL;
    int64_t max_bytes;
    int64_t max_descriptors;
    int fd;
    if (!take_arguments(env, info, 3, values) || !take_descriptor(env, values[0], &fd) ||
        !take_number(env, values[1], MAX_MESSAGE_BYTES, &max_bytes) ||
        !take_number(env, values[2], MAX_DESCRIPTORS, &max_descriptors))
        return NULL;
    union control control;
    struct iovec part = {.iov_base = buffer, .iov_len = (size_t)max_bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE((size_t)max_descriptors * sizeof(int))};
    if (max_descriptors == 0)
        message.msg_controllen = 0;
    ssize_t length;
    do
        length = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (length == -1 && errno == EINTR);
    if (length == -1)
        return errno == EAGAIN ? give_undefined(env) : throw_errno(env, "recvmsg", errno);
    struct received received = {.count = 0};
    collect(&message, &received);
    /* CMSG_SPACE is rounded up, so the kernel may have found room for one more than was asked for. */
    if ((message.msg_flags & MSG_CTRUNC) != 0 || received.count > (size_t)max_descriptors) {
        close_all(&received);
        return throw_errno(env, "recvmsg", ETOOMANYREFS);
    }
    if (napi_create_buffer_copy(env, (size_t)length, buffer, NULL, &bytes) != napi_ok) {
        close_all(&received);
        return throw_errno(env, "recvmsg", ENOMEM);
    }
    return give_message(env, bytes, &received);
}

static bool take_descriptors(napi_env env, napi_value list, int fds[MAX_DESCRIPTORS], uint32_t *count)
{
    napi_valuetype type;
    *count = 0;
    if (napi_typeof(env, list, &type) == napi_ok && type == napi_undefined)
        return true;
    if (napi_get_array_length(env, list, count) != napi_ok || *count > MAX_DESCRIPTORS) {
        throw_type_error(env, "not a list of at most 8 descriptors");
        return false;
    }
    for (uint32_t i = 0; i < *count; i++) {
        napi_value item;
        if (napi_get_element(env, list, i, &item) != napi_ok || !take_descriptor(env, item, &fds[i]))
            return false;
    }
    return true;
}

/* sendMessage(fd, bytes, descriptors?): everything, or EAGAIN and nothing; EMSGSIZE if the socket took a part. */
napi_value send_message(napi_env env, napi_callback_info info)
{
    napi_value values[MAX_ARGUMENTS];
    uint8_t *bytes;
    size_t length;
    int fds[MAX_DESCRIPTORS];
    uint32_t count;
    int fd;
    if (!take_arguments(env, info, 2, values) || !take_descriptor(env, values[0], &fd) ||
        !take_bytes(env, values[1], &bytes, &length) || !take_descriptors(env, values[2], fds, &count))
        return NULL;
    union control control = {0};
    struct iovec part = {.iov_base = bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof(int))};
        memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    ssize_t sent;
    do
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent == -1 && errno == EINTR);
    if (sent == -1)
        return throw_errno(env, "sendmsg", errno);
    if ((size_t)sent != length)
        return throw_errno(env, "sendmsg", EMSGSIZE);
    return give_undefined(env);
}
