#ifndef ENCLAVE_LAUNCHER_GUARD_H
#define ENCLAVE_LAUNCHER_GUARD_H

#include <sys/types.h>

/*
 * Waits for `child` to end, passing SIGTERM and SIGINT on and killing it when the lifeline hangs up.
 * @param signals a signalfd for SIGCHLD, SIGTERM and SIGINT
 * @param lifeline -1: none
 * @returns the status to exit with: the child's, or 128 and the signal that killed it
 */
int guard_child(pid_t child, int signals, int lifeline);

#endif
