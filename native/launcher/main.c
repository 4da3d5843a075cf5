/*
 * launcher: makes the sandbox of the `local` backend, on the host, with no privilege but what the caller has.
 *
 *   runner ── launcher ──clone──▶ child: uid 0 of new user, mount, pid, network, ipc, uts (and cgroup) namespaces,
 *                │                       PID 1, builds the root, becomes the image's init
 *                └ moves it into its cgroups, writes the maps, then waits: signals in, exit status out
 *
 * `launcher userns` does only the first part: a new user namespace for one command, with which the host's code makes
 * and removes trees of many owners. `launcher guard` runs a command as it is, tied to the runner's life: a virtual
 * machine has its own walls. Exit status: the command's, 128 and the signal, or 125 if it was never run.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/signals.h"
#include "cgroups.h"
#include "child.h"
#include "guard.h"
#include "identity.h"
#include "options.h"
#include "report.h"

#define SANDBOX_NAMESPACES (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)

/* The check afterwards closes the race with a parent that died before the signal was asked for. */
static void die_with_parent(void)
{
    pid_t parent = getppid();
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1)
        fail("death_signal", "PR_SET_PDEATHSIG");
    if (getppid() != parent)
        _exit(EXIT_LAUNCH_FAILED);
}

/* As fork(). With every argument but the flags zero, the raw call has one form on all architectures. */
static pid_t clone_into(int namespaces)
{
    return (pid_t)syscall(SYS_clone, namespaces | SIGCHLD, 0, 0, 0, 0);
}

static pid_t clone_child(const struct options *options)
{
    int user = options->new_user ? CLONE_NEWUSER : 0;
    return clone_into(options->whole_sandbox ? user | SANDBOX_NAMESPACES : user);
}

int main(int argc, char **argv)
{
    struct options options;
    sigset_t mask;
    int life[2];
    const char *refusal = read_options(argc, argv, &options);
    open_report(options.report_fd);
    errno = EINVAL;
    if (refusal != NULL)
        fail("arguments", refusal);
    die_with_parent();
    if (sigprocmask(SIG_SETMASK, NULL, &mask) == -1)
        fail("signals", "mask");
    int signals = open_signals((const int[]){SIGCHLD, SIGTERM, SIGINT, 0});
    if (signals == -1 || pipe2(life, O_CLOEXEC) == -1)
        fail("signals", "signalfd");
    int members[MAX_CGROUPS];
    open_cgroups(&options, members);
    pid_t child = clone_child(&options);
    if (child == -1)
        fail("userns", "clone");
    if (child == 0) {
        close(life[1]);
        become_command(&options, life[0], &mask);
    }
    close(life[0]);
    /* A child that was killed meanwhile is an error of write(), not a signal. */
    signal(SIGPIPE, SIG_IGN);
    if (options.new_user)
        write_maps(&options, child);
    if (write(life[1], "m", 1) != 1)
        fail("maps", "the child ended");
    /* The kernel takes its time for each; meanwhile the child builds its root. */
    move_into_cgroups(&options, members, child);
    if (options.cgroup_count > 0 && write(life[1], "c", 1) != 1)
        fail("cgroup", "the child ended");
    close_report();
    return guard_child(child, signals, options.lifeline_fd);
}
