#ifndef ENCLAVE_NSM_DEVICE_OPTIONS_H
#define ENCLAVE_NSM_DEVICE_OPTIONS_H

#include <stdbool.h>
#include <sys/types.h>

struct options {
    /* Who the program is once the device is there. */
    uid_t uid;
    gid_t gid;
    /* Whose the node is. */
    uid_t owner;
    gid_t group;
    bool owned;
    /* How long the host may take for one request. */
    int timeout_ms;
};

/* Fills `options`. On refusal returns a static text that says what is wrong, else NULL. */
const char *read_options(int argc, char *const *argv, struct options *options);

#endif
