/*
 * Callers with signals. The driver of the real device lets no signal interrupt a request, and programs do not expect
 * EINTR of it; but there a caller that is killed is held for as long as the hypervisor takes, and here that would be
 * the host. So signals are passed over, except those that end the caller.
 *
 * While there is no room for another call, nothing is read, not even about signals: then every caller is looked at.
 */
#include "calls.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void clear_calls(struct calls *calls)
{
    calls->count = 0;
    for (size_t i = 0; i < MAX_CALLS; i++)
        calls->order[i] = &calls->items[i];
}

bool is_full(const struct calls *calls)
{
    return calls->count == MAX_CALLS;
}

struct call *first_call(const struct calls *calls)
{
    return calls->count == 0 ? NULL : calls->order[0];
}

struct call *add_call(struct calls *calls)
{
    return calls->order[calls->count++];
}

/* Its place is free again, behind those that wait. */
static void remove_call(struct calls *calls, size_t index)
{
    struct call *call = calls->order[index];
    calls->count--;
    memmove(&calls->order[index], &calls->order[index + 1], (calls->count - index) * sizeof calls->order[0]);
    calls->order[calls->count] = call;
}

void remove_first(struct calls *calls)
{
    remove_call(calls, 0);
}

void interrupt_call(struct calls *calls, uint64_t unique)
{
    for (size_t i = 0; i < calls->count; i++) {
        if (calls->order[i]->unique == unique)
            calls->order[i]->interrupted = true;
    }
}

/* The kernel gives SIGKILL to every thread of a process that a signal is about to end. */
static bool is_dying(uint32_t thread)
{
    static const char mark[] = "\nSigPnd:\t";
    char path[32];
    char text[4096];
    snprintf(path, sizeof path, "/proc/%u/status", thread);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd == -1)
        return false;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return false;
    text[length] = '\0';
    const char *found = strstr(text, mark);
    return found != NULL && (strtoull(found + sizeof mark - 1, NULL, 16) >> (SIGKILL - 1) & 1) != 0;
}

static bool is_doubtful(const struct calls *calls, const struct call *call)
{
    return call->unique != 0 && (call->interrupted || is_full(calls));
}

uint64_t abandon_call(struct calls *calls)
{
    for (size_t i = 0; i < calls->count; i++) {
        struct call *call = calls->order[i];
        if (!is_doubtful(calls, call) || !is_dying(call->caller))
            continue;
        uint64_t unique = call->unique;
        call->unique = 0;
        if (i > 0)
            remove_call(calls, i);
        return unique;
    }
    return 0;
}

bool has_doubtful_calls(const struct calls *calls)
{
    for (size_t i = 0; i < calls->count; i++) {
        if (is_doubtful(calls, calls->order[i]))
            return true;
    }
    return false;
}
