/* Signals as data: programs here block what they care about and read it from a descriptor, so there are no handlers. */
#include "signals.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

bool reset_signals(void)
{
    /* The kernel's own form of a sigaction, all zero: SIG_DFL. libc's call would leave out signals 32 and 33. */
    const unsigned long standard[8] = {0};
    for (int number = 1; number < NSIG; number++) {
        if (number != SIGKILL && number != SIGSTOP &&
            syscall(SYS_rt_sigaction, number, standard, NULL, (NSIG - 1) / 8) == -1)
            return false;
    }
    sigset_t none;
    return sigemptyset(&none) == 0 && sigprocmask(SIG_SETMASK, &none, NULL) == 0;
}

int open_signals(const int *signals)
{
    sigset_t set;
    if (sigemptyset(&set) == -1)
        return -1;
    for (const int *number = signals; *number != 0; number++) {
        if (sigaddset(&set, *number) == -1)
            return -1;
    }
    if (sigprocmask(SIG_BLOCK, &set, NULL) == -1)
        return -1;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

const char *signal_name(int number)
{
    static char text[16];
    const char *name = sigabbrev_np(number);
    if (name == NULL)
        snprintf(text, sizeof text, "SIG%d", number);
    else
        snprintf(text, sizeof text, "SIG%s", name);
    return text;
}
