#ifndef ENCLAVE_SERVICE_EXEC_REQUEST_H
#define ENCLAVE_SERVICE_EXEC_REQUEST_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#define MAX_GROUPS 64
#define MAX_CGROUPS 16
#define MAX_LIMITS 16
#define MAX_FILTER 4096

struct limit {
    int resource;
    /* Borrowed from the table of names. */
    const char *name;
    struct rlimit value;
};

/* What the command line asks for. Strings are borrowed from argv. */
struct request {
    uid_t uid;
    gid_t gid;
    bool has_uid;
    bool has_gid;
    gid_t groups[MAX_GROUPS];
    size_t group_count;
    const char *directory;
    /* False in a user namespace of one uid, where no other identity exists. */
    bool set_identity;
    /* Directories of cgroups to join, one a hierarchy. */
    const char *cgroups[MAX_CGROUPS];
    size_t cgroup_count;
    struct limit limits[MAX_LIMITS];
    size_t limit_count;
    /* Bit N: capability N is kept. */
    uint64_t capabilities;
    /* Decimal text for oom_score_adj; NULL leaves it as it is. */
    const char *oom_score;
    bool confine;
    /* A confined service sees /dev/nsm; whether it may open it, the node's mode says. */
    bool nsm;
    /* NULL: no filter. */
    const char *filter_path;
    struct sock_filter filter[MAX_FILTER];
    size_t filter_length;
    bool terminal;
    /* The supervisor's pid; the service must not outlive it. */
    pid_t parent;
    /* Program and arguments, ended by NULL. */
    char **command;
    /* What a step that fails was busy with; NULL: the program as a whole. */
    const char *subject;
};

/* Fills `request`. On refusal returns a static text that says what is wrong, else NULL. */
const char *read_request(int argc, char **argv, struct request *request);

#endif
