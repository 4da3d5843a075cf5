/*
 * Resource limits, by the names of setrlimit(2) in lower case. The address space (RLIMIT_AS) is left out on purpose:
 * it kills programs that reserve much and use little, Node first; memory is bounded by the cgroup.
 */
#include "rlimits.h"

#include <string.h>

#include "../common/text.h"

static const struct {
    const char *name;
    int resource;
} NAMES[] = {
    {"core", RLIMIT_CORE},
    {"cpu", RLIMIT_CPU},
    {"data", RLIMIT_DATA},
    {"fsize", RLIMIT_FSIZE},
    {"locks", RLIMIT_LOCKS},
    {"memlock", RLIMIT_MEMLOCK},
    {"msgqueue", RLIMIT_MSGQUEUE},
    {"nice", RLIMIT_NICE},
    {"nofile", RLIMIT_NOFILE},
    {"nproc", RLIMIT_NPROC},
    {"rss", RLIMIT_RSS},
    {"rtprio", RLIMIT_RTPRIO},
    {"rttime", RLIMIT_RTTIME},
    {"sigpending", RLIMIT_SIGPENDING},
    {"stack", RLIMIT_STACK},
};

static bool parse_value(const char *text, rlim_t *value)
{
    unsigned long long number;
    *value = RLIM_INFINITY;
    if (strcmp(text, "unlimited") == 0)
        return true;
    if (!parse_number(text, RLIM_INFINITY - 1, &number))
        return false;
    *value = number;
    return true;
}

static bool find_resource(const char *name, struct limit *limit)
{
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        if (strcmp(name, NAMES[i].name) == 0) {
            limit->name = NAMES[i].name;
            limit->resource = NAMES[i].resource;
            return true;
        }
    }
    return false;
}

bool parse_limit(char *text, struct limit *limit)
{
    char *rest = text;
    const char *name = strsep(&rest, "=");
    const char *soft = strsep(&rest, ":");
    return soft != NULL && rest != NULL && find_resource(name, limit) &&
           parse_value(soft, &limit->value.rlim_cur) && parse_value(rest, &limit->value.rlim_max);
}

bool set_limits(struct request *request)
{
    for (size_t i = 0; i < request->limit_count; i++) {
        request->subject = request->limits[i].name;
        if (setrlimit(request->limits[i].resource, &request->limits[i].value) == -1)
            return false;
    }
    return true;
}
