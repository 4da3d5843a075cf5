#ifndef ENCLAVE_SERVICE_EXEC_CGROUP_H
#define ENCLAVE_SERVICE_EXEC_CGROUP_H

#include "request.h"

/* A step: joins the cgroups, one in each hierarchy. */
bool join_cgroups(struct request *request);

/* A step: how soon the kernel kills this process when memory runs out. */
bool set_oom_score(struct request *request);

#endif
