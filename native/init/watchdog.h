#ifndef ENCLAVE_INIT_WATCHDOG_H
#define ENCLAVE_INIT_WATCHDOG_H

#include "machine.h"

/* The supervisor said that it lives. The first time, the watch begins. */
void feed_watchdog(struct machine *machine);

/* Ends the watch: there is no supervisor any more. */
void stop_watchdog(struct machine *machine);

/* Kills a supervisor that has been silent for too long; its death is then judged as any other. */
void check_watchdog(struct machine *machine);

/* Milliseconds until the next check; -1: none is due. */
int watchdog_timeout_ms(const struct machine *machine);

#endif
