#ifndef ENCLAVE_SERVICE_EXEC_REQUEST_H
#define ENCLAVE_SERVICE_EXEC_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define MAX_GROUPS 64

/* What the command line asks for. Strings are borrowed from argv. */
struct request {
    uid_t uid;
    gid_t gid;
    gid_t groups[MAX_GROUPS];
    size_t group_count;
    const char *directory;
    /* False in a user namespace of one uid, where no other identity exists. */
    bool set_identity;
    /* The supervisor's pid; the service must not outlive it. */
    pid_t parent;
    /* Program and arguments, ended by NULL. */
    char **command;
};

/* Fills `request`. On refusal returns a static text that says what is wrong, else NULL. */
const char *read_request(int argc, char **argv, struct request *request);

#endif
