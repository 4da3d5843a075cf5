#ifndef ENCLAVE_SERVICE_EXEC_CHANNEL_H
#define ENCLAVE_SERVICE_EXEC_CHANNEL_H

/* Write end of the supervisor's error pipe. */
#define ERROR_FD 3

#define EXIT_NOT_EXECUTED 126
#define EXIT_NOT_FOUND 127

/* Says which step failed, with `number` as the errno, and exits: 127 if the program was not found, else 126. */
_Noreturn void refuse(const char *step, int number, const char *subject);

#endif
