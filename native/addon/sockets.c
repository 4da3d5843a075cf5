#include "sockets.h"

#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "values.h"

/* The kernel gives up a connection after two seconds by itself; how long to wait is for the caller to say. */
#define KERNEL_CONNECT_TIMEOUT_S 3600

napi_value vsock_socket(napi_env env, napi_callback_info info)
{
    (void)info;
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd == -1)
        return throw_errno(env, "socket", errno);
    struct timeval timeout = {.tv_sec = KERNEL_CONNECT_TIMEOUT_S};
    /* Without it the wait is shorter, not wrong. */
    setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &timeout, sizeof timeout);
    return give_number(env, fd);
}

static bool take_address(napi_env env, napi_value values[MAX_ARGUMENTS], int *fd, struct sockaddr_vm *address)
{
    int64_t cid;
    int64_t port;
    if (!take_descriptor(env, values[0], fd) || !take_number(env, values[1], UINT32_MAX, &cid) ||
        !take_number(env, values[2], UINT32_MAX, &port))
        return false;
    *address = (struct sockaddr_vm){.svm_family = AF_VSOCK, .svm_cid = (unsigned)cid, .svm_port = (unsigned)port};
    return true;
}

napi_value vsock_bind(napi_env env, napi_callback_info info)
{
    napi_value values[MAX_ARGUMENTS];
    struct sockaddr_vm address;
    int fd;
    if (!take_arguments(env, info, 3, values) || !take_address(env, values, &fd, &address))
        return NULL;
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) == -1)
        return throw_errno(env, "bind", errno);
    return give_undefined(env);
}

napi_value vsock_listen(napi_env env, napi_callback_info info)
{
    napi_value values[MAX_ARGUMENTS];
    int64_t backlog;
    int fd;
    if (!take_arguments(env, info, 2, values) || !take_descriptor(env, values[0], &fd) ||
        !take_number(env, values[1], INT32_MAX, &backlog))
        return NULL;
    if (listen(fd, (int)backlog) == -1)
        return throw_errno(env, "listen", errno);
    return give_undefined(env);
}

/* True: connected. False: writable, or not, when the connection is there or refused; see socket_error. */
napi_value vsock_connect(napi_env env, napi_callback_info info)
{
    napi_value values[MAX_ARGUMENTS];
    napi_value result = NULL;
    struct sockaddr_vm address;
    int fd;
    if (!take_arguments(env, info, 3, values) || !take_address(env, values, &fd, &address))
        return NULL;
    bool connected = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0;
    if (!connected && errno != EINPROGRESS)
        return throw_errno(env, "connect", errno);
    napi_get_boolean(env, connected, &result);
    return result;
}

napi_value vsock_peer(napi_env env, napi_callback_info info)
{
    napi_value values[MAX_ARGUMENTS];
    napi_value result = NULL;
    struct sockaddr_vm address;
    socklen_t length = sizeof address;
    int fd;
    if (!take_arguments(env, info, 1, values) || !take_descriptor(env, values[0], &fd))
        return NULL;
    if (getpeername(fd, (struct sockaddr *)&address, &length) == -1)
        return throw_errno(env, "getpeername", errno);
    if (address.svm_family != AF_VSOCK)
        return throw_errno(env, "getpeername", EAFNOSUPPORT);
    napi_create_object(env, &result);
    napi_set_named_property(env, result, "cid", give_number(env, address.svm_cid));
    napi_set_named_property(env, result, "port", give_number(env, address.svm_port));
    return result;
}

/* What became of a connection: throws why it failed. */
napi_value socket_error(napi_env env, napi_callback_info info)
{
    napi_value values[MAX_ARGUMENTS];
    int number = 0;
    socklen_t length = sizeof number;
    int fd;
    if (!take_arguments(env, info, 1, values) || !take_descriptor(env, values[0], &fd))
        return NULL;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &length) == -1)
        return throw_errno(env, "getsockopt", errno);
    return number == 0 ? give_undefined(env) : throw_errno(env, "connect", number);
}

napi_value socket_pair(napi_env env, napi_callback_info info)
{
    (void)info;
    int fds[2];
    napi_value result = NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == -1)
        return throw_errno(env, "socketpair", errno);
    napi_create_array_with_length(env, 2, &result);
    napi_set_element(env, result, 0, give_number(env, fds[0]));
    napi_set_element(env, result, 1, give_number(env, fds[1]));
    return result;
}

/* Never retried: on Linux a descriptor is gone whatever close() says. */
napi_value close_fd(napi_env env, napi_callback_info info)
{
    napi_value values[MAX_ARGUMENTS];
    int fd;
    if (!take_arguments(env, info, 1, values) || !take_descriptor(env, values[0], &fd))
        return NULL;
    if (close(fd) == -1 && errno != EINTR)
        return throw_errno(env, "close", errno);
    return give_undefined(env);
}
