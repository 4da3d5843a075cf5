/*
 * The error pipe. The supervisor reads descriptor 3 until its end: no bytes mean that the service runs (exec closed
 * the pipe), one line `<step> <errno-name> <message>\n` means that it does not. Where the descriptor is not open, the
 * exit status alone tells.
 */
#include "channel.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/descriptors.h"
#include "../common/text.h"

_Noreturn void refuse(const char *step, int number, const char *subject)
{
    char line[512];
    /* Two bytes are kept for the newline and the end. */
    int length = snprintf(line, sizeof line - 1, "%s %s %.300s: %s", step, errno_name(number), subject,
                          strerror(number));
    if (length > 0) {
        make_printable(line);
        strcat(line, "\n");
        /* A supervisor that has gone must not turn the refusal into a death by SIGPIPE. */
        signal(SIGPIPE, SIG_IGN);
        write_all(ERROR_FD, line, strlen(line));
    }
    exit(strcmp(step, "exec") == 0 && number == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTED);
}
