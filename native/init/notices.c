/*
 * What the supervisor says to init: a pipe with lines of at most 512 bytes.
 *
 *   ready                     the machine is up; passed on to the host
 *   alive                     every few seconds, once it runs (watchdog.c)
 *   fail <CODE> <reason>      it will now exit with status 78, because it cannot run this image here
 *
 * Anything else, and any longer line, is dropped with a word in the log.
 */
#include "notices.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../common/text.h"
#include "log.h"
#include "parent.h"
#include "watchdog.h"

static void take_notice(struct machine *machine, char *line)
{
    make_printable(line);
    if (strcmp(line, "ready") == 0) {
        report_ready(machine->local);
        return;
    }
    if (strcmp(line, "alive") == 0) {
        feed_watchdog(machine);
        return;
    }
    char *code = line + strlen("fail ");
    char *space = strncmp(line, "fail ", strlen("fail ")) == 0 ? strchr(code, ' ') : NULL;
    if (space == NULL || space == code) {
        log_line("the supervisor said something unknown");
        return;
    }
    *space = '\0';
    snprintf(machine->refusal, sizeof machine->refusal, "%s: %s", code, space + 1);
}

/* A full buffer without a newline is a line that is too long: its length stays at the limit until the newline. */
static void take_byte(struct machine *machine, char byte)
{
    if (byte != '\n') {
        if (machine->notice_length < sizeof machine->notice)
            machine->notice[machine->notice_length++] = byte;
        return;
    }
    if (machine->notice_length < sizeof machine->notice) {
        machine->notice[machine->notice_length] = '\0';
        take_notice(machine, machine->notice);
    } else {
        log_line("a notice of the supervisor is longer than %d bytes", MAX_NOTICE_BYTES);
    }
    machine->notice_length = 0;
}

void read_notices(struct machine *machine)
{
    char bytes[MAX_NOTICE_BYTES];
    while (machine->notify != -1) {
        ssize_t count = read(machine->notify, bytes, sizeof bytes);
        if (count == -1 && errno == EINTR)
            continue;
        if (count == -1 && errno == EAGAIN)
            return;
        if (count <= 0) {
            close_notices(machine);
            return;
        }
        for (ssize_t i = 0; i < count; i++)
            take_byte(machine, bytes[i]);
    }
}

void close_notices(struct machine *machine)
{
    if (machine->notify != -1)
        close(machine->notify);
    machine->notify = -1;
}
