/*
 * The launcher's life after the launch. It stays outside of the namespaces as the one process that the runner knows,
 * and three threads tie it to the sandbox: its death kills init (death signal), the runner's death kills it (its own
 * death signal) or hangs up the lifeline, and init's death is its exit status. The death of a pid namespace's init is
 * the death of every process and mount in it.
 */
#include "guard.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "report.h"

static void pass_signals(pid_t child, int signals)
{
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof info) == (ssize_t)sizeof info) {
        /* ESRCH cannot happen: the child is not reaped yet. */
        if (info.ssi_signo != SIGCHLD)
            kill(child, (int)info.ssi_signo);
    }
}

/* True while the other end of the lifeline is held. What it may say is read and forgotten. */
static bool is_held(int lifeline, short events)
{
    char bytes[256];
    if ((events & (POLLERR | POLLNVAL)) != 0)
        return false;
    if ((events & POLLIN) != 0) {
        ssize_t count = read(lifeline, bytes, sizeof bytes);
        return count > 0 || (count == -1 && (errno == EINTR || errno == EAGAIN));
    }
    return (events & POLLHUP) == 0;
}

static bool has_ended(pid_t child, int *result)
{
    int status;
    if (waitpid(child, &status, WNOHANG) != child)
        return false;
    *result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return true;
}

int guard_child(pid_t child, int signals, int lifeline)
{
    int result;
    struct pollfd events[] = {{.fd = signals, .events = POLLIN}, {.fd = lifeline, .events = POLLIN}};
    while (!has_ended(child, &result)) {
        if (poll(events, 2, -1) == -1 && errno != EINTR)
            fail("guard", "poll");
        pass_signals(child, signals);
        if (events[1].revents != 0 && !is_held(events[1].fd, events[1].revents)) {
            kill(child, SIGKILL);
            events[1].fd = -1;
            events[1].revents = 0;
        }
    }
    return result;
}
