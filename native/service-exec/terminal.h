#ifndef ENCLAVE_SERVICE_EXEC_TERMINAL_H
#define ENCLAVE_SERVICE_EXEC_TERMINAL_H

#include "request.h"

/* Where the supervisor sends the terminal's size: records of rows and columns, 16 bits each, big-endian. */
#define SIZES_FD 4

/*
 * A step: makes a terminal, and a child that leads a session on it and goes on with the next step. The process that
 * came here stays as the relay between the terminal and descriptor 0 and never returns.
 */
bool open_terminal(struct request *request);

#endif
