/* How a session on a terminal ends, for the client and for the supervisor. */
#include "ending.h"

#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../common/clock.h"

/* How long, and for how many bytes, a client is waited for. The kernel's own buffers hold less than that. */
#define DRAIN_DEADLINE_MS 10000
#define MAX_DRAIN_BYTES (256 * 1024)

/* Others may still have the terminal open and write on, so there is an end to it. */
static void pass_rest(struct flow *flow, int master, int client)
{
    int64_t deadline_ms = now_ms() + DRAIN_DEADLINE_MS;
    size_t passed = 0;
    while (passed < MAX_DRAIN_BYTES && pour_flow(flow, client)) {
        struct pollfd ready = {.fd = client, .events = POLLOUT};
        if (!is_drained(flow)) {
            if (poll(&ready, 1, ms_until(deadline_ms)) == 0)
                return;
            continue;
        }
        /* Nothing there now is nothing there at all: what the program wrote is in the terminal since before its end. */
        ssize_t count = fill_flow(flow, master);
        if (count <= 0)
            return;
        passed += (size_t)count;
    }
}

void drain_output(struct flow *flow, int master, int client)
{
    pass_rest(flow, master, client);
    /* The supervisor may still hold the socket too; the client shall see the end all the same. */
    shutdown(client, SHUT_WR);
}

_Noreturn void end_like(int status)
{
    const struct rlimit nothing = {0, 0};
    sigset_t set;
    if (WIFEXITED(status))
        exit(WEXITSTATUS(status));
    int number = WTERMSIG(status);
    /* The core, if one is wanted, is the program's and not this one. */
    setrlimit(RLIMIT_CORE, &nothing);
    signal(number, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, number);
    raise(number);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    exit(128 + number);
}
