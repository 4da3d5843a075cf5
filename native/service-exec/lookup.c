/*
 * Program lookup as a shell does it, with two deliberate differences: an empty element of PATH is skipped instead of
 * meaning the working directory, and a file that is neither a binary nor has `#!` is refused (ENOEXEC) instead of
 * being fed to /bin/sh.
 */
#include "lookup.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* True if the search may go on after this errno. */
static int is_miss(int number)
{
    return number == ENOENT || number == ENOTDIR || number == EACCES || number == ENAMETOOLONG;
}

/* Tries one directory; returns the errno. */
static int try_directory(const char *directory, int length, char **command, char **environment)
{
    char path[PATH_MAX];
    int written = snprintf(path, sizeof path, "%.*s/%s", length, directory, command[0]);
    if (written < 0 || (size_t)written >= sizeof path)
        return ENAMETOOLONG;
    execve(path, command, environment);
    return errno;
}

int execute(char **command, char **environment)
{
    if (*command[0] == '\0')
        return ENOENT;
    if (strchr(command[0], '/') != NULL) {
        execve(command[0], command, environment);
        return errno;
    }
    const char *path = getenv("PATH");
    int result = ENOENT;
    for (const char *at = path == NULL ? DEFAULT_PATH : path; *at != '\0';) {
        int length = (int)strcspn(at, ":");
        int number = length == 0 ? ENOENT : try_directory(at, length, command, environment);
        if (!is_miss(number))
            return number;
        /* "You may not run it" tells more than "it is not there". */
        if (number == EACCES)
            result = EACCES;
        at += length + (at[length] == ':');
    }
    return result;
}
