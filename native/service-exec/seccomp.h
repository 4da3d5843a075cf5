#ifndef ENCLAVE_SERVICE_EXEC_SECCOMP_H
#define ENCLAVE_SERVICE_EXEC_SECCOMP_H

#include "request.h"

/* A step: reads the filter while its file is still in sight. */
bool read_filter(struct request *request);

/* The last step: from here on every system call obeys the filter. */
bool install_filter(struct request *request);

#endif
