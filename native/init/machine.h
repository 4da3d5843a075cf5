#ifndef ENCLAVE_INIT_MACHINE_H
#define ENCLAVE_INIT_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../common/layout.h"

/* Deaths of the supervisor that are forgiven within the window; one more ends the machine. */
#define MAX_DEATHS 5
#define DEATH_WINDOW_MS 60000
/* Pause before a restart: doubles from the first to the last with each death in the window. */
#define FIRST_PAUSE_MS 100
#define LONGEST_PAUSE_MS 2000
/* How long an ordered shutdown may take. The supervisor's own deadline is shorter. */
#define SHUTDOWN_DEADLINE_MS 120000
/* A supervisor that said nothing between so many checks in a row is killed. */
#define WATCH_INTERVAL_MS 3000
#define MAX_SILENT_CHECKS 5

/* All that init knows. One, on main's stack. */
struct machine {
    /* vsock is the Unix form: started by the local backend's launcher. */
    bool local;
    int signals;

    /* 0 while there is none. */
    pid_t supervisor;
    /* 1 for the first supervisor. */
    unsigned generation;
    /* How the one before ended: "none", "exited(1)", "killed(SIGKILL)". */
    char previous_exit[32];
    /* When the next one starts, if none runs. */
    int64_t restart_at_ms;

    /* Times of the latest deaths, the oldest overwritten first. */
    int64_t deaths_ms[MAX_DEATHS + 1];
    size_t death_count;

    /* Read end of the supervisor's notify pipe, or -1, and the line that is being read. */
    int notify;
    char notice[MAX_NOTICE_BYTES];
    size_t notice_length;
    /* "<CODE>: <reason>" of the last `fail` notice; empty if none. */
    char refusal[MAX_NOTICE_BYTES];

    /* True from the supervisor's first `alive` on. */
    bool is_watched;
    int64_t next_check_ms;
    unsigned silent_checks;

    bool shutdown_requested;
    int64_t shutdown_deadline_ms;
};

#endif
