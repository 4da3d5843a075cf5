#ifndef ENCLAVE_SERVICE_EXEC_STEPS_H
#define ENCLAVE_SERVICE_EXEC_STEPS_H

#include "request.h"

/* One change of the process on its way to being a service. `run` returns false with errno, and may name a subject. */
struct step {
    const char *name;
    bool (*run)(struct request *request);
};

/* In the order in which they must happen; ended by a step without a name. */
extern const struct step STEPS[];

#endif
