/*
 * What the service is charged to, and what it pays with when memory runs out. A process that joins by itself, before
 * anything else, leaves no moment in which it or a child of it runs uncharged. "0" stands for the writer.
 */
#include "cgroup.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "../common/control-file.h"

bool join_cgroups(struct request *request)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < request->cgroup_count; i++) {
        request->subject = request->cgroups[i];
        int length = snprintf(path, sizeof path, "%s/cgroup.procs", request->cgroups[i]);
        if (length < 0 || (size_t)length >= sizeof path) {
            errno = ENAMETOOLONG;
            return false;
        }
        if (!write_control_file(path, "0"))
            return false;
    }
    return true;
}

bool set_oom_score(struct request *request)
{
    request->subject = request->oom_score;
    return request->oom_score == NULL || write_control_file("/proc/self/oom_score_adj", request->oom_score);
}
