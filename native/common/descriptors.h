#ifndef ENCLAVE_DESCRIPTORS_H
#define ENCLAVE_DESCRIPTORS_H

#include <stdbool.h>
#include <stddef.h>

bool is_open(int fd);
bool is_directory(int fd);

/* Sets or clears close-on-exec; false with errno. */
bool set_close_on_exec(int fd, bool on);

/* For all who hold the same open file; false with errno. */
bool set_non_blocking(int fd);

/* Closes every descriptor from `first` on. Works on kernels without close_range (4.14 is AWS's stock one). */
void close_from(int first);

/* Marks every descriptor from `first` on close-on-exec (Linux 5.11); false with errno. */
bool close_from_at_exec(int first);

/* Makes `target` a copy of `fd` that survives exec, also when both are the same number; false with errno. */
bool place_descriptor(int fd, int target);

/* Opens /dev/null as descriptor 0; false with errno. */
bool silence_stdin(void);

/* Writes all bytes, resuming after short writes and EINTR; false with errno. */
bool write_all(int fd, const char *bytes, size_t length);

#endif
