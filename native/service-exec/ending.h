#ifndef ENCLAVE_SERVICE_EXEC_ENDING_H
#define ENCLAVE_SERVICE_EXEC_ENDING_H

#include "flow.h"

/* After the program's end: gives the client what it wrote last, and then the end of the output. */
void drain_output(struct flow *flow, int master, int client);

/* Ends this process as waitpid() says that another one ended: with its status, or by its signal. */
_Noreturn void end_like(int status);

#endif
