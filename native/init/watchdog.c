/*
 * A supervisor that hangs is as bad as one that died, and worse to find. It says `alive` every few seconds.
 *
 * Silence is counted in checks of our own, not by the clock: when a whole virtual machine has been paused, the clock
 * jumps, but init and supervisor have slept for the same time and there was no check.
 */
#include "watchdog.h"

#include <signal.h>

#include "../common/clock.h"
#include "log.h"

void feed_watchdog(struct machine *machine)
{
    if (!machine->is_watched)
        machine->next_check_ms = now_ms() + WATCH_INTERVAL_MS;
    machine->is_watched = true;
    machine->silent_checks = 0;
}

void stop_watchdog(struct machine *machine)
{
    machine->is_watched = false;
}

void check_watchdog(struct machine *machine)
{
    if (!machine->is_watched || machine->supervisor == 0 || ms_until(machine->next_check_ms) > 0)
        return;
    machine->next_check_ms = now_ms() + WATCH_INTERVAL_MS;
    if (++machine->silent_checks < MAX_SILENT_CHECKS)
        return;
    log_line("the supervisor hangs: silent for %d s, killing it", MAX_SILENT_CHECKS * WATCH_INTERVAL_MS / 1000);
    kill(machine->supervisor, SIGKILL);
    stop_watchdog(machine);
}

int watchdog_timeout_ms(const struct machine *machine)
{
    return machine->is_watched && machine->supervisor != 0 ? ms_until(machine->next_check_ms) : -1;
}
