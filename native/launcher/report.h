#ifndef ENCLAVE_LAUNCHER_REPORT_H
#define ENCLAVE_LAUNCHER_REPORT_H

/* Exit status of the launcher for a failure of its own. */
#define EXIT_LAUNCH_FAILED 125

/* Takes over the report descriptor (-1: failures go to stderr), under another, close-on-exec number. */
void open_report(int fd);

/* Nothing can fail any more on this side. */
void close_report(void);

/* Reports `step` with errno and exits with EXIT_LAUNCH_FAILED. */
_Noreturn void fail(const char *step, const char *detail);

#endif
