#ifndef ENCLAVE_LAUNCHER_CHILD_H
#define ENCLAVE_LAUNCHER_CHILD_H

#include <signal.h>

#include "options.h"

/*
 * Runs in the new namespaces and becomes the command.
 * @param life read end of a pipe whose only write end the launcher holds: one byte says that the maps are written,
 *             its end that the launcher is dead.
 * @param mask the signal mask that the launcher was started with
 */
_Noreturn void become_command(const struct options *options, int life, const sigset_t *mask);

#endif
