/*
 * initctl: the command of that name inside an enclave. It becomes the runtime's Node with the bundle of that program;
 * a script with `#!` could not, because Node comes with a loader of its own in images that have none.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/layout.h"

#define EXIT_NOT_EXECUTED 126
#define EXIT_NOT_FOUND 127

static const char *const THROUGH_LOADER[] = {
    RUNTIME_LOADER, "--library-path", RUNTIME_LIBRARIES, "--argv0", "initctl", RUNTIME_NODE, RUNTIME_INITCTL, NULL,
};
static const char *const DIRECT[] = {RUNTIME_NODE, RUNTIME_INITCTL, NULL};

/* Executes `command` with the arguments behind it; returns only on failure, with errno. */
static void become(const char *const *command, int argc, char **argv)
{
    size_t used = 0;
    /* The longer command, the arguments and the end. */
    const char **words = calloc(sizeof THROUGH_LOADER / sizeof THROUGH_LOADER[0] + (size_t)argc + 1, sizeof *words);
    if (words == NULL)
        return;
    for (; command[used] != NULL; used++)
        words[used] = command[used];
    for (int i = 1; i < argc; i++)
        words[used++] = argv[i];
    execv(words[0], (char *const *)words);
    free(words);
}

int main(int argc, char **argv)
{
    become(THROUGH_LOADER, argc, argv);
    /* An image that uses the machine's own libraries has no loader of ours. */
    if (errno == ENOENT)
        become(DIRECT, argc, argv);
    int number = errno;
    fprintf(stderr, "initctl: cannot execute %s: %s\n", RUNTIME_NODE, strerror(number));
    return number == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTED;
}
