#ifndef ENCLAVE_SERVICE_EXEC_RELAY_H
#define ENCLAVE_SERVICE_EXEC_RELAY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "flow.h"
#include "sizes.h"

struct relay {
    pid_t child;
    /* Non-blocking descriptors; -1: given up. */
    int master;
    int client;
    int signals;
    struct sizes sizes;
    struct flow to_session;
    struct flow to_client;
    /* The client sends no more; the terminal has nobody on its other side any more. */
    bool input_ended;
    bool output_ended;
    /* When a session that was hung up on is killed; 0: it was not. */
    int64_t kill_at_ms;
    bool child_ended;
    /* As waitpid() has it. */
    int status;
};

/* Relays until the child has ended and ends like it. */
_Noreturn void run_relay(struct relay *relay);

#endif
