#ifndef ENCLAVE_INIT_LOG_H
#define ENCLAVE_INIT_LOG_H

/* Writes "init: ...\n" to stderr, at most 400 bytes, in one write. */
__attribute__((format(printf, 1, 2))) void log_line(const char *format, ...);

#endif
