/*
 * The ioctl waits for the hypervisor, uninterruptibly and for up to two minutes, so a thread of libuv's pool makes it.
 * (Linux has a header for it, <linux/nsm.h>, only since 6.8.)
 */
#include "nsm.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "../common/layout.h"
#include "values.h"

struct nsm_argument {
    uint64_t request;
    uint64_t request_length;
    uint64_t response;
    /* In: the room. Out: what was used. */
    uint64_t response_length;
};

#define NSM_IOCTL _IOWR(0x0A, 0, struct nsm_argument)

/* Owned by its work: freed when that is complete. */
struct exchange {
    napi_async_work work;
    napi_deferred deferred;
    int fd;
    /* 0, or the errno. */
    int number;
    size_t request_length;
    size_t response_length;
    uint8_t request[NSM_REQUEST_MAX_BYTES];
    uint8_t response[NSM_RESPONSE_MAX_BYTES];
};

/* On a thread of the pool. Nothing is repeated after EINTR: the request may have had its effect. */
static void execute(napi_env env, void *data)
{
    (void)env;
    struct exchange *exchange = data;
    struct nsm_argument argument = {
        .request = (uintptr_t)exchange->request,
        .request_length = exchange->request_length,
        .response = (uintptr_t)exchange->response,
        .response_length = sizeof exchange->response,
    };
    if (ioctl(exchange->fd, NSM_IOCTL, &argument) == -1)
        exchange->number = errno;
    else if (argument.response_length > sizeof exchange->response)
        exchange->number = EMSGSIZE;
    else
        exchange->response_length = argument.response_length;
}

static void complete(napi_env env, napi_status status, void *data)
{
    struct exchange *exchange = data;
    napi_value response = NULL;
    int number = status == napi_ok ? exchange->number : ECANCELED;
    if (number == 0 &&
        napi_create_buffer_copy(env, exchange->response_length, exchange->response, NULL, &response) != napi_ok)
        number = ENOMEM;
    if (number == 0)
        napi_resolve_deferred(env, exchange->deferred, response);
    else
        napi_reject_deferred(env, exchange->deferred, make_errno(env, "ioctl", number));
    napi_delete_async_work(env, exchange->work);
    free(exchange);
}

static bool queue_exchange(napi_env env, struct exchange *exchange, napi_value *promise)
{
    napi_value name;
    if (napi_create_string_utf8(env, "ENCLAVENSM", NAPI_AUTO_LENGTH, &name) != napi_ok ||
        napi_create_async_work(env, NULL, name, execute, complete, exchange, &exchange->work) != napi_ok)
        return false;
    if (napi_create_promise(env, &exchange->deferred, promise) == napi_ok &&
        napi_queue_async_work(env, exchange->work) == napi_ok)
        return true;
    napi_delete_async_work(env, exchange->work);
    return false;
}

/* nsmRequest(fd, request): a promise of the response. */
napi_value nsm_request(napi_env env, napi_callback_info info)
{
    napi_value values[MAX_ARGUMENTS];
    napi_value promise = NULL;
    uint8_t *bytes;
    size_t length;
    int fd;
    if (!take_arguments(env, info, 2, values) || !take_descriptor(env, values[0], &fd) ||
        !take_bytes(env, values[1], &bytes, &length))
        return NULL;
    if (length > NSM_REQUEST_MAX_BYTES)
        return throw_errno(env, "ioctl", EMSGSIZE);
    struct exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL)
        return throw_errno(env, "ioctl", ENOMEM);
    exchange->fd = fd;
    exchange->request_length = length;
    if (length > 0)
        memcpy(exchange->request, bytes, length);
    if (queue_exchange(env, exchange, &promise))
        return promise;
    free(exchange);
    return throw_errno(env, "ioctl", ENOMEM);
}
