#ifndef ENCLAVE_INIT_VSOCK_H
#define ENCLAVE_INIT_VSOCK_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Connects to `port` on the host and answers a non-blocking socket, or -1 with errno.
 * @param local true where descriptor 3 is the vsock directory of the local backend
 */
int connect_host(bool local, unsigned port, int64_t deadline_ms);

/* Waits until `fd` is ready for `events` (POLLIN, POLLOUT); false with errno, ETIMEDOUT at the deadline. */
bool wait_ready(int fd, short events, int64_t deadline_ms);

#endif
