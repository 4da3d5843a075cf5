#ifndef ENCLAVE_LAUNCHER_ROOT_H
#define ENCLAVE_LAUNCHER_ROOT_H

#include "options.h"
#include "sources.h"

/* Builds the new root from `sources`, complete with /proc, /sys and /dev; answers its descriptor. */
int build_root(const struct options *options, const struct sources *sources);

/* Makes `root` the root of this mount namespace and lets go of the old one. */
void enter_root(int root);

#endif
