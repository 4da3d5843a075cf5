#ifndef ENCLAVE_SERVICE_EXEC_SIZES_H
#define ENCLAVE_SERVICE_EXEC_SIZES_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of one record: rows and columns, 16 bits each, big-endian. */
#define SIZE_RECORD_BYTES 4

/* The stream of the terminal's sizes. */
struct sizes {
    /* Non-blocking; -1: ended. */
    int fd;
    unsigned char record[SIZE_RECORD_BYTES];
    size_t length;
};

/* Gives the terminal a standard size, or the first one that comes within so long; false with errno. */
bool start_sizes(struct sizes *sizes, int master, int wait_ms);

/* Applies the records that are there to the terminal; a master of -1 has none any more. */
void read_sizes(struct sizes *sizes, int master);

#endif
