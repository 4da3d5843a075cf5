#ifndef ENCLAVE_LAUNCHER_SOURCES_H
#define ENCLAVE_LAUNCHER_SOURCES_H

#include "options.h"

#define DEVICE_COUNT 6

/* Names in /dev that the sandbox gets from the host. */
extern const char *const DEVICE_NAMES[DEVICE_COUNT];

/* Everything of the host that goes into the sandbox, as descriptors. */
struct sources {
    int tree;
    int scratch;
    /* Detached copy of the vsock directory. */
    int vsock;
    /* Detached copies; a device is -1 where the host has none. */
    int devices[DEVICE_COUNT];
    int binds[MAX_BINDS];
    bool bind_is_directory[MAX_BINDS];
    int cgroups[MAX_CGROUPS];
};

/* Opens all of it, with the caller's rights to walk paths. Fails the launch otherwise. */
void open_sources(const struct options *options, struct sources *sources);

#endif
