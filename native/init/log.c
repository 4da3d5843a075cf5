/* init's own voice: the console of the machine. Nothing is stored, and a closed stderr is nobody's problem. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../common/descriptors.h"
#include "../common/text.h"

void log_line(const char *format, ...)
{
    char line[400] = "init: ";
    size_t used = strlen(line);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line + used, sizeof line - used - 1, format, arguments);
    va_end(arguments);
    make_printable(line);
    strcat(line, "\n");
    write_all(STDERR_FILENO, line, strlen(line));
}
