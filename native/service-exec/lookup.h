#ifndef ENCLAVE_SERVICE_EXEC_LOOKUP_H
#define ENCLAVE_SERVICE_EXEC_LOOKUP_H

/* Executes command[0], looked up in PATH if it has no slash. Returns only on failure, with the errno that counts. */
int execute(char **command, char **environment);

#endif
