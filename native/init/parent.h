#ifndef ENCLAVE_INIT_PARENT_H
#define ENCLAVE_INIT_PARENT_H

#include <stdbool.h>

/* Boot heartbeat on port 9000. A host that does not answer is logged. */
void send_heartbeat(bool local);

/* Tells the host that the machine is ready. Best effort, at most 2 s. */
void report_ready(bool local);

/* Tells the host why the machine ends: an END_* code and a reason, which is cut to fit. Best effort, at most 2 s. */
void report_end(bool local, const char *code, const char *reason);

#endif
