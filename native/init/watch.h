#ifndef ENCLAVE_INIT_WATCH_H
#define ENCLAVE_INIT_WATCH_H

#include "machine.h"

/* Runs the machine: supervises the supervisor, reaps orphans, obeys signals, until there is a reason to end. */
_Noreturn void watch_machine(struct machine *machine);

#endif
