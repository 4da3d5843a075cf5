/*
 * The relay's life. It ends with the child and like the child: the supervisor, whose child the relay is, learns the
 * status or the signal of the program itself.
 *
 * A client that ends its own side (a pipe as input) still gets the output. One that is gone hangs up: the terminal is
 * closed, the kernel tells the session by SIGHUP, and what is left after a while is killed.
 */
#include "relay.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/clock.h"
#include "ending.h"

#define HANGUP_GRACE_MS 5000

/* To the whole group; to the child alone where it does not lead one yet. */
static void signal_child(const struct relay *relay, int number)
{
    if (kill(-relay->child, number) == -1 && errno == ESRCH)
        kill(relay->child, number);
}

static void read_signals(struct relay *relay)
{
    struct signalfd_siginfo info;
    while (read(relay->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo != SIGCHLD)
            signal_child(relay, (int)info.ssi_signo);
    }
    relay->child_ended = waitpid(relay->child, &relay->status, WNOHANG) == relay->child;
}

/* The client is gone: so is the terminal. */
static void hang_up(struct relay *relay)
{
    close(relay->client);
    relay->client = -1;
    close(relay->master);
    relay->master = -1;
    empty_flow(&relay->to_session);
    empty_flow(&relay->to_client);
    relay->kill_at_ms = now_ms() + HANGUP_GRACE_MS;
}

static void read_client(struct relay *relay)
{
    ssize_t count = fill_flow(&relay->to_session, relay->client);
    relay->input_ended = count == 0;
    if (count == -1 && !is_temporary(errno))
        hang_up(relay);
}

/* EIO is how a terminal says that nobody has it open on the other side. The program may still run without it. */
static void read_master(struct relay *relay)
{
    ssize_t count = fill_flow(&relay->to_client, relay->master);
    if (count == 0 || (count == -1 && !is_temporary(errno)))
        relay->output_ended = true;
}

static void pour_both(struct relay *relay)
{
    if (relay->master != -1 && !pour_flow(&relay->to_session, relay->master))
        empty_flow(&relay->to_session);
    if (relay->client != -1 && !pour_flow(&relay->to_client, relay->client))
        hang_up(relay);
}

static short client_events(const struct relay *relay)
{
    return (short)((!relay->input_ended && is_drained(&relay->to_session) ? POLLIN : 0) |
                   (is_drained(&relay->to_client) ? 0 : POLLOUT));
}

static short master_events(const struct relay *relay)
{
    return (short)((!relay->output_ended && is_drained(&relay->to_client) ? POLLIN : 0) |
                   (is_drained(&relay->to_session) ? 0 : POLLOUT));
}

static void kill_if_due(struct relay *relay)
{
    if (relay->child_ended || relay->kill_at_ms == 0 || now_ms() < relay->kill_at_ms)
        return;
    signal_child(relay, SIGKILL);
    /* Again each time: the first one may have met a group that was about to grow. */
    relay->kill_at_ms = now_ms() + HANGUP_GRACE_MS;
}

static void turn(struct relay *relay)
{
    short wanted = master_events(relay);
    struct pollfd events[] = {
        {.fd = relay->signals, .events = POLLIN},
        {.fd = relay->sizes.fd, .events = POLLIN},
        /* One that is asked nothing would report its hang-up again and again. */
        {.fd = wanted == 0 ? -1 : relay->master, .events = wanted},
        {.fd = relay->client, .events = client_events(relay)},
    };
    if (poll(events, 4, relay->kill_at_ms == 0 ? -1 : ms_until(relay->kill_at_ms)) == -1)
        return;
    if (events[0].revents != 0)
        read_signals(relay);
    if (events[1].revents != 0)
        read_sizes(&relay->sizes, relay->master);
    if (events[2].revents != 0 && (wanted & POLLIN) != 0)
        read_master(relay);
    if ((events[3].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0)
        hang_up(relay);
    else if ((events[3].revents & POLLIN) != 0)
        read_client(relay);
    pour_both(relay);
    kill_if_due(relay);
}

_Noreturn void run_relay(struct relay *relay)
{
    /* A client that is gone is an error of write(). */
    signal(SIGPIPE, SIG_IGN);
    while (!relay->child_ended)
        turn(relay);
    if (relay->client != -1)
        drain_output(&relay->to_client, relay->master, relay->client);
    end_like(relay->status);
}
