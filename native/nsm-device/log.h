#ifndef ENCLAVE_NSM_DEVICE_LOG_H
#define ENCLAVE_NSM_DEVICE_LOG_H

/* One line on stderr, `nsm-device: ` in front. */
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
