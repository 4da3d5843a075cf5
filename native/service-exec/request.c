/*
 * The command line:
 *
 *   service-exec --uid N --gid N [--groups a,b,c] --cwd DIR [--no-setid]
 *                [--cgroup DIR]... [--rlimit NAME=SOFT:HARD]... [--cap NUMBER]... [--oom-score N]
 *                [--confine [--nsm]] [--seccomp FILE] [--tty] -- PROG ARG...
 *
 * Everything is explicit: a missing --uid is refused rather than read as root, and no capability is kept unasked.
 */
#include "request.h"

#include <string.h>

#include "../common/text.h"
#include "rlimits.h"

/* (uid_t)-1 means "leave as it is" to the kernel, so it is no identity. */
#define MAX_ID 4294967294ULL
#define MAX_CAPABILITY 63
#define MAX_OOM_SCORE 1000

static bool parse_id(const char *text, unsigned *id)
{
    unsigned long long value;
    if (!parse_number(text, MAX_ID, &value))
        return false;
    *id = (unsigned)value;
    return true;
}

static bool read_uid(char *value, struct request *request)
{
    request->has_uid = parse_id(value, &request->uid);
    return request->has_uid;
}

static bool read_gid(char *value, struct request *request)
{
    request->has_gid = parse_id(value, &request->gid);
    return request->has_gid;
}

/* "a,b,c"; the empty text is the empty list. Cuts the text into its items. */
static bool read_groups(char *text, struct request *request)
{
    char *rest = *text == '\0' ? NULL : text;
    for (char *item = strsep(&rest, ","); item != NULL; item = strsep(&rest, ",")) {
        if (request->group_count == MAX_GROUPS || !parse_id(item, &request->groups[request->group_count]))
            return false;
        request->group_count++;
    }
    return true;
}

static bool read_directory(char *value, struct request *request)
{
    request->directory = value;
    return true;
}

static bool read_cgroup(char *value, struct request *request)
{
    if (request->cgroup_count == MAX_CGROUPS || value[0] != '/')
        return false;
    request->cgroups[request->cgroup_count++] = value;
    return true;
}

static bool read_limit(char *value, struct request *request)
{
    if (request->limit_count == MAX_LIMITS || !parse_limit(value, &request->limits[request->limit_count]))
        return false;
    request->limit_count++;
    return true;
}

static bool read_capability(char *value, struct request *request)
{
    unsigned long long number;
    if (!parse_number(value, MAX_CAPABILITY, &number))
        return false;
    request->capabilities |= UINT64_C(1) << number;
    return true;
}

static bool read_oom_score(char *value, struct request *request)
{
    unsigned long long number;
    request->oom_score = value;
    return parse_number(value + (value[0] == '-'), MAX_OOM_SCORE, &number);
}

static bool read_filter_path(char *value, struct request *request)
{
    request->filter_path = value;
    return true;
}

static const struct option {
    const char *name;
    bool (*read)(char *value, struct request *request);
    const char *refusal;
} OPTIONS[] = {
    {"--uid", read_uid, "--uid is not a number"},
    {"--gid", read_gid, "--gid is not a number"},
    {"--groups", read_groups, "--groups is not a list of at most 64 numbers"},
    {"--cwd", read_directory, NULL},
    {"--cgroup", read_cgroup, "--cgroup is not an absolute path, or there are more than 16"},
    {"--rlimit", read_limit, "--rlimit is not NAME=SOFT:HARD, or there are more than 16"},
    {"--cap", read_capability, "--cap is not the number of a capability"},
    {"--oom-score", read_oom_score, "--oom-score is not a number from -1000 to 1000"},
    {"--seccomp", read_filter_path, NULL},
};

/* Reads one option with its value. */
static const char *read_option(const char *name, char *value, struct request *request)
{
    for (size_t i = 0; i < sizeof OPTIONS / sizeof OPTIONS[0]; i++) {
        if (strcmp(name, OPTIONS[i].name) == 0)
            return OPTIONS[i].read(value, request) ? NULL : OPTIONS[i].refusal;
    }
    return "unknown option";
}

/* True if the option is one without a value. */
static bool read_switch(const char *name, struct request *request)
{
    if (strcmp(name, "--no-setid") == 0)
        request->set_identity = false;
    else if (strcmp(name, "--confine") == 0)
        request->confine = true;
    else if (strcmp(name, "--nsm") == 0)
        request->nsm = true;
    else if (strcmp(name, "--tty") == 0)
        request->terminal = true;
    else
        return false;
    return true;
}

const char *read_request(int argc, char **argv, struct request *request)
{
    int at = 1;
    for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
        if (read_switch(argv[at], request))
            continue;
        if (at + 1 == argc)
            return "option without a value";
        const char *refusal = read_option(argv[at], argv[at + 1], request);
        if (refusal != NULL)
            return refusal;
        at++;
    }
    if (!request->has_uid || !request->has_gid || request->directory == NULL)
        return "--uid, --gid and --cwd are required";
    if (at + 1 >= argc)
        return "no program after --";
    request->command = &argv[at + 1];
    return NULL;
}
