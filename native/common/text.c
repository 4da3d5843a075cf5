/* Strict small conversions between text and values. */
#include "text.h"

#include <stddef.h>
#include <string.h>

bool parse_number(const char *text, unsigned long long maximum, unsigned long long *value)
{
    unsigned long long sum = 0;
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return false;
        unsigned digit = (unsigned)(*text - '0');
        if (digit > maximum || sum > (maximum - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

const char *errno_name(int number)
{
    const char *name = strerrorname_np(number);
    return name == NULL ? "E" : name;
}

void make_printable(char *text)
{
    size_t length = strlen(text);
    if (length > 0 && text[length - 1] == '\n')
        text[length - 1] = '\0';
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte < 0x20 || byte == 0x7f)
            *text = '?';
    }
}
