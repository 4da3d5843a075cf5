/*
 * A terminal for an interactive program. One process becomes two:
 *
 *   client ══ descriptor 0 ══ relay ── master │ slave ── child: session leader, becomes the program
 *   supervisor ── descriptor 4: sizes ──┘
 *
 * Both have the service's identity; the filter is the child's alone, since the relay runs no code of the service. The
 * child decides about the error pipe, so the relay lets go of it at once.
 */
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "../common/descriptors.h"
#include "../common/signals.h"
#include "channel.h"
#include "relay.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41) /* Linux 4.13: opens the slave without a path that a service could replace */
#endif

/* How long the program waits for the supervisor to tell the size: it then knows it from its first instruction. */
#define FIRST_SIZE_MS 100

/* What the relay passes on to the program instead of obeying it itself. */
static const int SIGNALS[] = {SIGCHLD, SIGTERM, SIGINT,  SIGHUP,   SIGQUIT, SIGUSR1,
                              SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT, 0};

static int open_master(void)
{
    const int locked = 0;
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (master == -1 || ioctl(master, TIOCSPTLCK, &locked) == 0)
        return master;
    int number = errno;
    close(master);
    errno = number;
    return -1;
}

/* In the child: leader of a new session with the slave as its terminal. */
static bool enter_session(int master, pid_t relay)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1)
        return false;
    errno = ESRCH;
    if (getppid() != relay || setsid() == -1)
        return false;
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    if (slave == -1 || ioctl(slave, TIOCSCTTY, 0) == -1)
        return false;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (dup2(slave, fd) == -1)
            return false;
    }
    close_from(ERROR_FD + 1);
    /* The relay's signals are blocked since before the fork: one meant for a child that is not there yet waits. */
    return reset_signals();
}

static _Noreturn void become_relay(struct relay *relay)
{
    close(ERROR_FD);
    close(STDOUT_FILENO);
    close(STDERR_FILENO);
    /* Nothing of the same uid may look into the process that holds the client's connection. */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    run_relay(relay);
}

/* Descriptor 0 must be a connection to the client; false with errno. */
static bool take_client(void)
{
    int type;
    socklen_t size = sizeof type;
    if (getsockopt(STDIN_FILENO, SOL_SOCKET, SO_TYPE, &type, &size) == -1)
        return false;
    errno = EPROTOTYPE;
    return type == SOCK_STREAM && set_non_blocking(STDIN_FILENO);
}

/* Everything up to the fork; false with errno. */
static bool prepare_terminal(struct relay *relay)
{
    relay->master = open_master();
    if (relay->master == -1 || !start_sizes(&relay->sizes, relay->master, FIRST_SIZE_MS))
        return false;
    relay->signals = open_signals(SIGNALS);
    return relay->signals != -1;
}

bool open_terminal(struct request *request)
{
    if (!request->terminal)
        return true;
    struct relay relay = {.client = STDIN_FILENO, .sizes = {.fd = is_open(SIZES_FD) ? SIZES_FD : -1}};
    pid_t self = getpid();
    request->subject = "descriptor 0";
    if (!take_client())
        return false;
    request->subject = "/dev/ptmx";
    if (!prepare_terminal(&relay))
        return false;
    relay.child = fork();
    if (relay.child == 0)
        return enter_session(relay.master, self);
    if (relay.child != -1)
        become_relay(&relay);
    return false;
}
