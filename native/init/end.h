#ifndef ENCLAVE_INIT_END_H
#define ENCLAVE_INIT_END_H

#include "machine.h"

/* Kills every other process of the machine and waits until none is left, at most 10 s. */
void kill_everything(void);

/* Tells the host why (an END_* code and a reason), kills everything and ends the machine. */
_Noreturn void end_machine(const struct machine *machine, const char *code, const char *reason);

#endif
