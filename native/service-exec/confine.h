#ifndef ENCLAVE_SERVICE_EXEC_CONFINE_H
#define ENCLAVE_SERVICE_EXEC_CONFINE_H

#include "request.h"

/* A step: a mount namespace in which the service sees less of the machine than the supervisor does. */
bool confine(struct request *request);

#endif
