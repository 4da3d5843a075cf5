/*
 * One thread, one loop, and one request with the host at a time, as the real device does it. Everything else that the
 * kernel asks is answered at once, so that opening the device, or dying, never waits for the host.
 */
#include "serve.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "calls.h"
#include "channel.h"
#include "host.h"
#include "ioctl.h"
#include "log.h"

#include "../common/clock.h"
#include "../common/text.h"

/* How often callers that may be dying are looked at. */
#define WATCH_MS 100

struct server {
    int channel;
    /* The log says once that the host does not answer, until it does. */
    bool failing;
    struct host host;
    struct calls calls;
    struct message message;
};

static struct server server;

/* The answer of the first call's request is there, or none will be. */
static bool finish_call(enum progress progress, int number)
{
    const struct call *call = first_call(&server.calls);
    bool answered = true;
    if (progress == HOST_FAILED && !server.failing)
        log_line("the host's NSM does not answer: %s", errno_name(number));
    server.failing = progress == HOST_FAILED;
    if (call->unique != 0 && progress == HOST_FAILED)
        answered = answer_error(server.channel, call->unique, number);
    else if (call->unique != 0)
        answered = answer_call(server.channel, call, answered_bytes(&server.host), answered_length(&server.host));
    remove_first(&server.calls);
    return answered;
}

/* Asks the host for one call after the other, as long as it answers or fails at once. */
static bool start_calls(void)
{
    while (!is_host_busy(&server.host)) {
        const struct call *call = first_call(&server.calls);
        if (call == NULL)
            return true;
        if (call->unique == 0) {
            remove_first(&server.calls);
            continue;
        }
        enum progress progress = ask_host(&server.host, call->request, call->length);
        if (progress != HOST_WAITS && !finish_call(progress, errno))
            return false;
    }
    return true;
}

static bool continue_call(bool ready)
{
    if (!is_host_busy(&server.host)) {
        if (ready)
            drop_host(&server.host);
        return true;
    }
    enum progress progress = continue_host(&server.host, ready);
    return progress == HOST_WAITS || finish_call(progress, errno);
}

static bool end_dying(void)
{
    for (uint64_t unique = abandon_call(&server.calls); unique != 0; unique = abandon_call(&server.calls)) {
        if (!answer_error(server.channel, unique, EINTR))
            return false;
    }
    return true;
}

static bool take_interrupt(void)
{
    struct fuse_interrupt_in in;
    if (body_length(&server.message) < sizeof in)
        return true;
    memcpy(&in, server.message.body, sizeof in);
    interrupt_call(&server.calls, in.unique);
    return true;
}

static bool take_message(void)
{
    static const struct fuse_open_out opened = {.open_flags = FOPEN_DIRECT_IO};
    const struct part part = {&opened, sizeof opened};
    const uint64_t unique = server.message.header.unique;
    switch (server.message.header.opcode) {
    case FUSE_OPEN:
        return answer(server.channel, unique, &part, 1);
    case FUSE_IOCTL:
        return take_ioctl(server.channel, &server.message, &server.calls);
    case FUSE_INTERRUPT:
        return take_interrupt();
    case FUSE_RELEASE:
    case FUSE_FLUSH:
        return answer_error(server.channel, unique, 0);
    case FUSE_READ:
    case FUSE_WRITE:
        return answer_error(server.channel, unique, EINVAL);
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
        return true;
    default:
        return answer_error(server.channel, unique, ENOSYS);
    }
}

/* No more than a round of them, so that the host is looked at as well. */
static bool take_messages(void)
{
    for (int turn = 0; turn < MAX_CALLS && !is_full(&server.calls); turn++) {
        enum reading reading = read_message(server.channel, &server.message);
        if (reading == MESSAGE_NONE)
            return true;
        if (reading == MESSAGE_FAILED || !take_message())
            return false;
    }
    return true;
}

static int waiting_ms(void)
{
    int left = is_host_busy(&server.host) ? ms_until(server.host.deadline_ms) : -1;
    return has_doubtful_calls(&server.calls) && (left == -1 || left > WATCH_MS) ? WATCH_MS : left;
}

int serve_device(int channel, int signals, int timeout_ms)
{
    server.channel = channel;
    server.host.fd = -1;
    clear_calls(&server.calls);
    server.host.timeout_ms = timeout_ms;
    for (;;) {
        struct pollfd ready[] = {
            {.fd = signals, .events = POLLIN},
            {.fd = is_full(&server.calls) ? -1 : channel, .events = POLLIN},
            {.fd = server.host.fd, .events = host_events(&server.host)},
        };
        if (poll(ready, 3, waiting_ms()) == -1 && errno != EINTR)
            return -1;
        if (ready[0].revents != 0)
            return 0;
        if (!continue_call(ready[2].revents != 0) || (ready[1].revents != 0 && !take_messages()) ||
            !end_dying() || !start_calls())
            return -1;
    }
}
