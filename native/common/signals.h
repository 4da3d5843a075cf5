#ifndef ENCLAVE_SIGNALS_H
#define ENCLAVE_SIGNALS_H

#include <stdbool.h>

/* Gives every signal its default disposition and unblocks all: exec keeps ignored and blocked signals otherwise. */
bool reset_signals(void);

/* Blocks `signals` (ended by 0) and returns a close-on-exec, non-blocking signalfd for them, or -1 with errno. */
int open_signals(const int *signals);

/* "SIGKILL" for 9; "SIG34" where there is no name. The answer lives until the next call. */
const char *signal_name(int number);

#endif
