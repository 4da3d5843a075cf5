#ifndef ENCLAVE_SERVICE_EXEC_RLIMITS_H
#define ENCLAVE_SERVICE_EXEC_RLIMITS_H

#include "request.h"

/* Reads NAME=SOFT:HARD, which it cuts into its parts; false if it is none. */
bool parse_limit(char *text, struct limit *limit);

/* A step. Never lowers a wish: what the kernel does not grant is refused. */
bool set_limits(struct request *request);

#endif
