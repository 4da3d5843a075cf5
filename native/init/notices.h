#ifndef ENCLAVE_INIT_NOTICES_H
#define ENCLAVE_INIT_NOTICES_H

#include "machine.h"

/* Reads what the supervisor has said so far, and acts on whole lines. Closes the pipe at its end. */
void read_notices(struct machine *machine);

/* Forgets the pipe of a supervisor that is gone. */
void close_notices(struct machine *machine);

#endif
