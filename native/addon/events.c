#include "events.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <uv.h>

#include "values.h"

napi_value create_eventfd(napi_env env, napi_callback_info info)
{
    (void)info;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd == -1 ? throw_errno(env, "eventfd", errno) : give_number(env, fd);
}

/*
 * The descriptor's flags are shared with whoever passed it, who may have made it wait; the loop must not. What is left
 * is the moment between this question and the call.
 */
static bool is_ready(int fd, short events)
{
    struct pollfd ready = {.fd = fd, .events = events};
    int count;
    do
        count = poll(&ready, 1, 0);
    while (count == -1 && errno == EINTR);
    return count == 1 && (ready.revents & (events | POLLERR | POLLNVAL)) != 0;
}

/* A counter that is full is a signal that was given already. */
napi_value signal_eventfd(napi_env env, napi_callback_info info)
{
    napi_value values[MAX_ARGUMENTS];
    uint64_t one = 1;
    int fd;
    if (!take_arguments(env, info, 1, values) || !take_descriptor(env, values[0], &fd))
        return NULL;
    if (!is_ready(fd, POLLOUT))
        return give_undefined(env);
    ssize_t written;
    do
        written = write(fd, &one, sizeof one);
    while (written == -1 && errno == EINTR);
    return written == -1 && errno != EAGAIN ? throw_errno(env, "write", errno) : give_undefined(env);
}

/* What the other side passed as an eventfd may be anything; less than eight bytes count as none. */
napi_value read_eventfd(napi_env env, napi_callback_info info)
{
    napi_value values[MAX_ARGUMENTS];
    uint64_t count = 0;
    int fd;
    if (!take_arguments(env, info, 1, values) || !take_descriptor(env, values[0], &fd))
        return NULL;
    if (!is_ready(fd, POLLIN))
        return give_number(env, 0);
    ssize_t length;
    do
        length = read(fd, &count, sizeof count);
    while (length == -1 && errno == EINTR);
    if (length == -1 && errno != EAGAIN)
        return throw_errno(env, "read", errno);
    return give_number(env, length == (ssize_t)sizeof count ? (int64_t)(count & INT32_MAX) : 0);
}

/* Owned by its handle: freed when the loop has let go of it. */
struct watch {
    uv_poll_t handle;
    napi_env env;
    napi_ref callback;
    napi_async_context context;
    napi_async_cleanup_hook_handle cleanup;
    bool is_closing;
};

static void free_watch(uv_handle_t *handle)
{
    struct watch *watch = handle->data;
    napi_handle_scope scope;
    if (napi_open_handle_scope(watch->env, &scope) == napi_ok) {
        napi_delete_reference(watch->env, watch->callback);
        napi_async_destroy(watch->env, watch->context);
        napi_close_handle_scope(watch->env, scope);
    }
    if (watch->cleanup != NULL)
        napi_remove_async_cleanup_hook(watch->cleanup);
    free(watch);
}

/* May be called twice. */
static void close_watch(struct watch *watch)
{
    if (watch->is_closing)
        return;
    watch->is_closing = true;
    uv_poll_stop(&watch->handle);
    uv_close((uv_handle_t *)&watch->handle, free_watch);
}

static void clean_up(napi_async_cleanup_hook_handle cleanup, void *data)
{
    (void)cleanup;
    close_watch(data);
}

static void call_back(uv_poll_t *handle, int status, int events)
{
    struct watch *watch = handle->data;
    napi_env env = watch->env;
    napi_handle_scope scope;
    napi_value receiver;
    napi_value callback;
    napi_value error;
    (void)status;
    (void)events;
    if (napi_open_handle_scope(env, &scope) != napi_ok)
        return;
    if (napi_get_reference_value(env, watch->callback, &callback) == napi_ok &&
        napi_get_global(env, &receiver) == napi_ok &&
        napi_make_callback(env, watch->context, receiver, callback, 0, NULL, NULL) == napi_pending_exception &&
        napi_get_and_clear_last_exception(env, &error) == napi_ok)
        napi_fatal_exception(env, error);
    napi_close_handle_scope(env, scope);
}

static napi_value stop_watch(napi_env env, napi_callback_info info)
{
    void *data = NULL;
    napi_value receiver;
    size_t count = 0;
    struct watch *watch = NULL;
    if (napi_get_cb_info(env, info, &count, NULL, &receiver, &data) != napi_ok)
        return NULL;
    /* The object forgets the watch, so stopping twice finds none. */
    if (napi_remove_wrap(env, receiver, (void **)&watch) == napi_ok && watch != NULL)
        close_watch(watch);
    return give_undefined(env);
}

static void forget(napi_env env, struct watch *watch)
{
    if (watch->callback != NULL)
        napi_delete_reference(env, watch->callback);
    if (watch->context != NULL)
        napi_async_destroy(env, watch->context);
    free(watch);
}

static bool open_handle(napi_env env, struct watch *watch, int fd, int events)
{
    uv_loop_t *loop = NULL;
    int status = napi_get_uv_event_loop(env, &loop) == napi_ok ? uv_poll_init(loop, &watch->handle, fd) : UV_EINVAL;
    if (status != 0) {
        forget(env, watch);
        throw_errno(env, "epoll_ctl", -status);
        return false;
    }
    watch->handle.data = watch;
    napi_add_async_cleanup_hook(env, clean_up, watch, &watch->cleanup);
    status = uv_poll_start(&watch->handle, events, call_back);
    if (status != 0) {
        close_watch(watch);
        throw_errno(env, "epoll_ctl", -status);
    }
    return status == 0;
}

/* Calls back whenever the descriptor is ready, until stop() of the object that it returns. */
static napi_value watch_events(napi_env env, napi_callback_info info, int events)
{
    napi_value values[MAX_ARGUMENTS];
    napi_value result = NULL;
    napi_value stop;
    napi_value name;
    int fd;
    if (!take_arguments(env, info, 2, values) || !take_descriptor(env, values[0], &fd))
        return NULL;
    struct watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL)
        return throw_errno(env, "epoll_ctl", ENOMEM);
    watch->env = env;
    napi_create_string_utf8(env, "ENCLAVEWATCH", NAPI_AUTO_LENGTH, &name);
    if (napi_create_reference(env, values[1], 1, &watch->callback) != napi_ok ||
        napi_async_init(env, NULL, name, &watch->context) != napi_ok) {
        forget(env, watch);
        return throw_type_error(env, "not a function");
    }
    if (!open_handle(env, watch, fd, events))
        return NULL;
    napi_create_object(env, &result);
    napi_wrap(env, result, watch, NULL, NULL, NULL);
    napi_create_function(env, "stop", NAPI_AUTO_LENGTH, stop_watch, NULL, &stop);
    napi_set_named_property(env, result, "stop", stop);
    return result;
}

napi_value watch_readable(napi_env env, napi_callback_info info)
{
    return watch_events(env, info, UV_READABLE);
}

napi_value watch_writable(napi_env env, napi_callback_info info)
{
    return watch_events(env, info, UV_WRITABLE);
}
