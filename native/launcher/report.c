/*
 * How a failed launch is told. Before the command runs, a failure writes one line to the report descriptor:
 *
 *   E <step> <errno-number> <errno-name> <detail>\n        at most 1024 bytes
 *
 * On success nobody writes: the launcher closes its copy, exec closes the child's, and the reader sees the end of the
 * pipe. The launcher and its child are two processes with one such pipe; only the one that fails writes.
 */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/descriptors.h"
#include "../common/text.h"

/* Descriptors that live until exec are moved above the few low numbers that have a meaning to the command. */
#define FIRST_PRIVATE_FD 10

/* One per process, set once at the start: failing must be possible from anywhere. */
static int report_fd = -1;

void open_report(int fd)
{
    if (fd == -1)
        return;
    report_fd = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_PRIVATE_FD);
    if (report_fd == -1)
        fail("report", "--report-fd is not open");
    close(fd);
}

void close_report(void)
{
    if (report_fd != -1)
        close(report_fd);
    report_fd = -1;
}

_Noreturn void fail(const char *step, const char *detail)
{
    int number = errno;
    char line[1024];
    snprintf(line, sizeof line - 1, "E %s %d %s %s", step, number, errno_name(number), detail);
    make_printable(line);
    strcat(line, "\n");
    signal(SIGPIPE, SIG_IGN);
    if (report_fd == -1)
        dprintf(STDERR_FILENO, "launcher: %s: %s: %s\n", step, detail, strerror(number));
    else
        write_all(report_fd, line, strlen(line));
    _exit(EXIT_LAUNCH_FAILED);
}
