/*
 * From clone to exec, in the child. The order is the point:
 *
 *   1. wait for the maps          before them there is no uid 0
 *   2. open what the host gives   while still the caller
 *   3. become uid 0
 *   4. tie life to the launcher   after 3, because a change of identity clears the death signal
 *   5. build and enter the root   as uid 0, so that new files belong to a uid that exists
 *   6. cgroup namespace           its root is the cgroup of the moment, so after the launcher has moved this process
 *   7. exec
 */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/descriptors.h"
#include "../common/layout.h"
#include "../common/signals.h"
#include "cgroups.h"
#include "identity.h"
#include "report.h"
#include "root.h"
#include "sources.h"

static void wait_for_launcher(int life)
{
    char byte;
    ssize_t count;
    do {
        count = read(life, &byte, 1);
    } while (count == -1 && errno == EINTR);
    /* The launcher failed and has told why. */
    if (count != 1)
        _exit(EXIT_LAUNCH_FAILED);
}

/* getppid() is 0 across a pid namespace, so the pipe tells whether the launcher died before the signal was set. */
static void die_with_launcher(int life)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1)
        fail("death_signal", "PR_SET_PDEATHSIG");
    struct pollfd end = {.fd = life, .events = 0};
    if (poll(&end, 1, 0) == -1 || (end.revents & POLLHUP) != 0)
        _exit(EXIT_LAUNCH_FAILED);
}

static void enter_sandbox(const struct options *options, int life)
{
    struct sources sources;
    open_sources(options, &sources);
    become_root(options);
    die_with_launcher(life);
    /* Its own session: Ctrl-C on the operator's terminal is for the CLI, and no terminal is shared. */
    if (setsid() == -1)
        fail("setsid", "");
    /* The caller's keys stay outside. Kernels without keyrings have none to leak. */
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) == -1 && errno != ENOSYS && errno != EPERM)
        fail("keyring", "");
    umask(022);
    enter_root(build_root(options, &sources));
    if (!place_descriptor(sources.vsock, SUPERVISOR_FD_VSOCK_DIRECTORY) || !silence_stdin())
        fail("descriptors", "0 and 3");
}

_Noreturn void become_command(const struct options *options, int life, const sigset_t *mask)
{
    wait_for_launcher(life);
    if (options->whole_sandbox) {
        enter_sandbox(options, life);
        if (options->cgroup_count > 0)
            wait_for_launcher(life);
        enter_cgroup_namespace();
        /* Not closed before: the report descriptor must live until exec succeeds. */
        if (!close_from_at_exec(SUPERVISOR_FD_VSOCK_DIRECTORY + 1))
            fail("descriptors", "close-on-exec");
        /* SIGTERM and SIGINT stay blocked: one that comes before init listens waits instead of being lost. */
        execve(options->command[0], options->command, (char *[]){NULL});
    } else {
        if (options->new_user)
            become_root(options);
        die_with_launcher(life);
        /* Descriptors of a user namespace's command are its caller's business. */
        if (!options->new_user && !close_from_at_exec(STDERR_FILENO + 1))
            fail("descriptors", "close-on-exec");
        if (sigprocmask(SIG_SETMASK, mask, NULL) == -1)
            fail("signals", "mask");
        execvp(options->command[0], options->command);
    }
    fail("exec", options->command[0]);
}
