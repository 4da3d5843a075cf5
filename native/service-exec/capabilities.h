#ifndef ENCLAVE_SERVICE_EXEC_CAPABILITIES_H
#define ENCLAVE_SERVICE_EXEC_CAPABILITIES_H

#include "request.h"

/* A step: takes everything that is not kept out of the bounding set. */
bool narrow_bounding_set(struct request *request);

/* A step before the uid changes: lets what is kept survive the change. */
bool keep_capabilities(struct request *request);

/* A step after the uid: exactly what is kept, in every set, and in the ambient set so that it survives exec. */
bool take_capabilities(struct request *request);

#endif
