#ifndef ENCLAVE_SERVICE_EXEC_READ_ONLY_H
#define ENCLAVE_SERVICE_EXEC_READ_ONLY_H

#include <stdbool.h>

/* Makes every mount at or below `path` read-only, if there is any; false with errno. */
bool protect_mounts(const char *path);

/* Makes one file or directory read-only, if it exists, by a mount of its own; false with errno. */
bool protect_path(const char *path);

#endif
