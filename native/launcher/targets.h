#ifndef ENCLAVE_LAUNCHER_TARGETS_H
#define ENCLAVE_LAUNCHER_TARGETS_H

#include <stdbool.h>

/*
 * Opens (O_PATH) the place in the new root where something is to be mounted; what is missing on the way is made, the
 * last component as a directory or as an empty file. Fails the launch under `step`.
 */
int open_target(int root, const char *path, bool directory, const char *step);

#endif
