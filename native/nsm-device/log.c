#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../common/descriptors.h"
#include "../common/text.h"

void log_line(const char *format, ...)
{
    char line[256] = "nsm-device: ";
    size_t used = strlen(line);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line + used, sizeof line - used - 1, format, arguments);
    va_end(arguments);
    make_printable(line);
    strcat(line, "\n");
    write_all(STDERR_FILENO, line, strlen(line));
}
