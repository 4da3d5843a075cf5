#ifndef ENCLAVE_TEXT_H
#define ENCLAVE_TEXT_H

#include <stdbool.h>

/* Decimal digits only, at most `maximum`; false for anything else. */
bool parse_number(const char *text, unsigned long long maximum, unsigned long long *value);

/* "ENOENT" for ENOENT; "E" and nothing more where there is no name. */
const char *errno_name(int number);

/* Drops a newline at the end and replaces every other control character by '?': the text then fits on a line. */
void make_printable(char *text);

#endif
