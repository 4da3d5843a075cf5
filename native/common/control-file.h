#ifndef ENCLAVE_CONTROL_FILE_H
#define ENCLAVE_CONTROL_FILE_H

#include <stdbool.h>

/* Writes `text` into a file of the kernel that is there already, in one write; false with errno. */
bool write_control_file(const char *path, const char *text);

#endif
