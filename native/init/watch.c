/*
 * init's one loop. It waits for three things: a signal, a notice of the supervisor, the clock.
 *
 *      start ──▶ running ──exit 0────────────────────────────▶ end: poweroff
 *        ▲          │ └───exit 78 after a `fail` notice──────▶ end: supervisor_refused
 *        │          │ any other death: kill everything
 *        └─ pause ◀─┴─ more than 5 within 60 s ──────────────▶ end: supervisor_crash_loop
 *
 * SIGTERM and SIGINT go to the supervisor, which stops the services in order and exits with 0. If it takes longer than
 * 120 s: end, shutdown_timeout. If it dies otherwise while stopping, it is not started again: end, poweroff.
 */
#include "watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/clock.h"
#include "end.h"
#include "log.h"
#include "notices.h"
#include "supervisor.h"
#include "watchdog.h"

/* Counts a death; answers how many, with this one, lie within the window. */
static unsigned count_death(struct machine *machine)
{
    int64_t now = now_ms();
    unsigned recent = 0;
    machine->deaths_ms[machine->death_count++ % (MAX_DEATHS + 1)] = now;
    for (size_t i = 0; i <= MAX_DEATHS && i < machine->death_count; i++)
        recent += now - machine->deaths_ms[i] <= DEATH_WINDOW_MS;
    return recent;
}

static void plan_restart(struct machine *machine)
{
    char reason[160];
    unsigned deaths = count_death(machine);
    if (deaths > MAX_DEATHS) {
        snprintf(reason, sizeof reason, "the supervisor died %u times within %d s; the last time it %s", deaths,
                 DEATH_WINDOW_MS / 1000, machine->previous_exit);
        end_machine(machine, END_SUPERVISOR_CRASH_LOOP, reason);
    }
    int64_t pause_ms = FIRST_PAUSE_MS << (deaths - 1);
    machine->restart_at_ms = now_ms() + (pause_ms < LONGEST_PAUSE_MS ? pause_ms : LONGEST_PAUSE_MS);
}

/* The supervisor is dead. What it said last is read before it is judged. */
static void judge_death(struct machine *machine, int status)
{
    char reason[96];
    machine->supervisor = 0;
    stop_watchdog(machine);
    describe_exit(status, machine->previous_exit, sizeof machine->previous_exit);
    read_notices(machine);
    close_notices(machine);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        end_machine(machine, END_POWEROFF, "the supervisor ended in order");
    if (WIFEXITED(status) && WEXITSTATUS(status) == SUPERVISOR_EXIT_REFUSED && machine->refusal[0] != '\0')
        end_machine(machine, END_SUPERVISOR_REFUSED, machine->refusal);
    if (machine->shutdown_requested) {
        snprintf(reason, sizeof reason, "the supervisor %s during the shutdown", machine->previous_exit);
        end_machine(machine, END_POWEROFF, reason);
    }
    log_line("the supervisor %s", machine->previous_exit);
    kill_everything();
    plan_restart(machine);
}

static void reap_children(struct machine *machine)
{
    int status;
    for (pid_t pid = waitpid(-1, &status, WNOHANG); pid > 0; pid = waitpid(-1, &status, WNOHANG)) {
        if (pid == machine->supervisor)
            judge_death(machine, status);
    }
}

static void request_shutdown(struct machine *machine, int signal)
{
    if (machine->supervisor == 0)
        end_machine(machine, END_POWEROFF, "asked for while no supervisor ran");
    if (!machine->shutdown_requested)
        machine->shutdown_deadline_ms = now_ms() + SHUTDOWN_DEADLINE_MS;
    machine->shutdown_requested = true;
    kill(machine->supervisor, signal);
}

/* Children first: a signal for a supervisor that is dead, but not reaped, would be lost. */
static void take_signals(struct machine *machine)
{
    struct signalfd_siginfo info;
    reap_children(machine);
    while (read(machine->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        reap_children(machine);
        if (info.ssi_signo != SIGCHLD)
            request_shutdown(machine, (int)info.ssi_signo);
    }
}

static void obey_clock(struct machine *machine)
{
    if (machine->shutdown_requested && ms_until(machine->shutdown_deadline_ms) == 0)
        end_machine(machine, END_SHUTDOWN_TIMEOUT, "the ordered shutdown took longer than 120 s");
    check_watchdog(machine);
    if (machine->supervisor != 0 || ms_until(machine->restart_at_ms) > 0)
        return;
    if (!start_supervisor(machine))
        plan_restart(machine);
}

static int next_timeout_ms(const struct machine *machine)
{
    if (machine->supervisor == 0)
        return ms_until(machine->restart_at_ms);
    int shutdown_ms = machine->shutdown_requested ? ms_until(machine->shutdown_deadline_ms) : -1;
    int check_ms = watchdog_timeout_ms(machine);
    return check_ms == -1 || (shutdown_ms != -1 && shutdown_ms < check_ms) ? shutdown_ms : check_ms;
}

_Noreturn void watch_machine(struct machine *machine)
{
    for (;;) {
        obey_clock(machine);
        struct pollfd events[] = {{.fd = machine->signals, .events = POLLIN},
                                  {.fd = machine->notify, .events = POLLIN}};
        if (poll(events, 2, next_timeout_ms(machine)) == -1 && errno != EINTR)
            end_machine(machine, END_INIT_FAILED, "poll failed");
        if (events[1].revents != 0)
            read_notices(machine);
        if (events[0].revents != 0)
            take_signals(machine);
    }
}
