#ifndef ENCLAVE_INIT_FILE_H
#define ENCLAVE_INIT_FILE_H

#include <stddef.h>
#include <sys/types.h>

/*
 * Reads a file as text ended by NUL; answers its length. -1 with errno: EFBIG for a file of `size` bytes or more,
 * EILSEQ for one that holds a NUL.
 */
ssize_t read_file(const char *path, char *text, size_t size);

#endif
