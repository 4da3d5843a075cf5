#ifndef ENCLAVE_SERVICE_EXEC_FIFO_H
#define ENCLAVE_SERVICE_EXEC_FIFO_H

/* Carries out `--mkfifo UID GID PATH...`; the arguments are those behind the option. Returns the exit status. */
int make_fifos(int count, char **arguments);

#endif
