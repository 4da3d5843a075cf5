#ifndef ENCLAVE_CLOCK_H
#define ENCLAVE_CLOCK_H

#include <stdint.h>

/* Milliseconds of the monotonic clock. */
int64_t now_ms(void);

/* Milliseconds until `deadline_ms` for poll(): 0 if it has passed. */
int ms_until(int64_t deadline_ms);

#endif
