#ifndef ENCLAVE_SERVICE_EXEC_FLOW_H
#define ENCLAVE_SERVICE_EXEC_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define FLOW_BYTES 16384

/* One direction: what was read and is not written yet. It reads again when all is written: that is its back-pressure. */
struct flow {
    size_t start;
    size_t end;
    char bytes[FLOW_BYTES];
};

bool is_drained(const struct flow *flow);

/* Reads once from a non-blocking descriptor into a drained flow. Answers the count, 0 at the end; -1 with errno. */
ssize_t fill_flow(struct flow *flow, int fd);

/* Writes what a non-blocking descriptor takes. False with errno where it will never take more. */
bool pour_flow(struct flow *flow, int fd);

/* Forgets what is not written. */
void empty_flow(struct flow *flow);

/* True if errno says that the same call may do better later. */
bool is_temporary(int number);

#endif
