#ifndef ENCLAVE_INIT_SUPERVISOR_H
#define ENCLAVE_INIT_SUPERVISOR_H

#include "machine.h"

/*
 * Starts the next generation of the supervisor. False if it could not be forked. A machine without a usable list of
 * arguments is ended: no retry would mend that.
 */
bool start_supervisor(struct machine *machine);

/* Writes "exited(1)" or "killed(SIGKILL)" for a wait status. */
void describe_exit(int status, char *text, size_t size);

#endif
