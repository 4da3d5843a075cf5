/*
 * The end of the machine. In the local backend that is init's exit: the kernel then removes the namespaces with all
 * they hold. In a VM PID 1 must not exit; there a restart is the end, as in AWS's init: Nitro stops an enclave that
 * reboots, and QEMU runs with -no-reboot. (Power-off needs ACPI, which these machines do not have.)
 */
#include "end.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/text.h"
#include "log.h"
#include "parent.h"

#define KILL_DEADLINE_MS 10000
#define KILL_INTERVAL_MS 100

/* Reaps what is dead; false once no child is left. Every orphan is a child of PID 1. */
static bool reap_dead(void)
{
    pid_t pid;
    do {
        pid = waitpid(-1, NULL, WNOHANG);
    } while (pid > 0);
    return pid == 0;
}

void kill_everything(void)
{
    int64_t deadline_ms = now_ms() + KILL_DEADLINE_MS;
    const struct timespec interval = {.tv_nsec = KILL_INTERVAL_MS * 1000000L};
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    /* Again each time: a process may have been between fork and the first signal. ESRCH: there was none. */
    while (kill(-1, SIGKILL) == 0 || errno == ESRCH) {
        if (!reap_dead())
            return;
        if (now_ms() > deadline_ms) {
            log_line("some processes do not die");
            return;
        }
        sigtimedwait(&child, NULL, &interval);
    }
}

static _Noreturn void restart_hardware(void)
{
    sync();
    reboot(RB_AUTOBOOT);
    log_line("cannot reboot: %s", errno_name(errno));
    for (;;)
        pause();
}

_Noreturn void end_machine(const struct machine *machine, const char *code, const char *reason)
{
    log_line("end: %s: %s", code, reason);
    report_end(machine->local, code, reason);
    kill_everything();
    if (!machine->local)
        restart_hardware();
    /* No sync here: it would flush the host's disks, and nothing of this machine is on one. */
    _exit(strcmp(code, END_POWEROFF) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}
