#ifndef ENCLAVE_LAUNCHER_OPTIONS_H
#define ENCLAVE_LAUNCHER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#define MAX_MAPS 16
#define MAX_BINDS 32
#define MAX_CGROUPS 8
#define MAX_CGROUP_NAME_BYTES 32

/* COUNT ids: INSIDE.. in the namespace are OUTSIDE.. on the host. For uids and gids alike. */
struct id_map {
    unsigned inside;
    unsigned outside;
    unsigned count;
};

struct bind {
    const char *source;
    /* Absolute, inside the new root. */
    const char *target;
};

/* A cgroup that the host delegates. The name is that of a version 1 hierarchy; empty: version 2. */
struct cgroup {
    char name[MAX_CGROUP_NAME_BYTES + 1];
    const char *directory;
};

/* What the command line asks for. Strings are borrowed from argv. */
struct options {
    /* True for `run` alone. */
    bool whole_sandbox;
    /* False for `guard` alone. */
    bool new_user;
    bool map_self;
    struct id_map maps[MAX_MAPS];
    size_t map_count;
    const char *root;
    const char *scratch;
    const char *vsock_directory;
    unsigned long long tmpfs_bytes;
    struct bind binds[MAX_BINDS];
    size_t bind_count;
    struct cgroup cgroups[MAX_CGROUPS];
    size_t cgroup_count;
    /* -1 where not given. */
    int lifeline_fd;
    int report_fd;
    /* Ended by NULL. */
    char **command;
};

/* Fills `options`. On refusal returns a static text that says what is wrong, else NULL. */
const char *read_options(int argc, char **argv, struct options *options);

#endif
