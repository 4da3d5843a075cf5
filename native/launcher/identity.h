#ifndef ENCLAVE_LAUNCHER_IDENTITY_H
#define ENCLAVE_LAUNCHER_IDENTITY_H

#include <sys/types.h>

#include "options.h"

/* Launcher's side: writes the uid and gid maps of `child`'s user namespace. Fails the launch otherwise. */
void write_maps(const struct options *options, pid_t child);

/* Child's side: becomes uid 0 and gid 0 of its namespace, without other groups where they can be dropped. */
void become_root(const struct options *options);

#endif
