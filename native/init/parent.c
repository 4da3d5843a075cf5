/*
 * The three things that init says to the host, each on a connection of its own:
 *   port 9000  one byte 0xB7, answered by the same byte: the boot heartbeat that nitro-cli waits for
 *   port 9003  "ready\n", or {"code":"...","reason":"..."}\n before the end (wire/init-line.ts)
 * The host may be absent, slow or hostile, so all have a deadline, and nothing it answers is believed.
 */
#include "parent.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/layout.h"
#include "../common/text.h"
#include "log.h"
#include "vsock.h"

#define HEARTBEAT_DEADLINE_MS 5000
#define REPORT_DEADLINE_MS 2000

static bool exchange_heartbeat(int fd, int64_t deadline_ms)
{
    unsigned char byte = HEARTBEAT_BYTE;
    if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1 || !wait_ready(fd, POLLIN, deadline_ms))
        return false;
    ssize_t count = recv(fd, &byte, 1, 0);
    if (count == 1 && byte == HEARTBEAT_BYTE)
        return true;
    if (count != -1)
        errno = EPROTO;
    return false;
}

void send_heartbeat(bool local)
{
    int64_t deadline_ms = now_ms() + HEARTBEAT_DEADLINE_MS;
    int fd = connect_host(local, PORT_HEARTBEAT, deadline_ms);
    if (fd == -1 || !exchange_heartbeat(fd, deadline_ms))
        log_line("no heartbeat: %s", errno_name(errno));
    if (fd != -1)
        close(fd);
}

static bool send_line(bool local, int fd, const char *line, int64_t deadline_ms)
{
    for (size_t left = strlen(line); left > 0;) {
        ssize_t count = send(fd, line, left, MSG_NOSIGNAL);
        if (count > 0) {
            line += count;
            left -= (size_t)count;
        } else if (errno != EAGAIN || !wait_ready(fd, POLLOUT, deadline_ms)) {
            return false;
        }
    }
    /* Bytes in a Unix socket outlive their sender; over AF_VSOCK the end of the machine could overtake them. */
    return local || (shutdown(fd, SHUT_WR) == 0 && wait_ready(fd, POLLIN, deadline_ms));
}

static void report_line(bool local, const char *line)
{
    int64_t deadline_ms = now_ms() + REPORT_DEADLINE_MS;
    int fd = connect_host(local, PORT_INIT_REPORT, deadline_ms);
    if (fd == -1 || !send_line(local, fd, line, deadline_ms))
        log_line("no report: %s", errno_name(errno));
    if (fd != -1)
        close(fd);
}

void report_ready(bool local)
{
    report_line(local, "ready\n");
}

/* Appends `text` as the inside of a JSON string. Bytes beyond printable ASCII become '?'. */
static void append_escaped(char *line, size_t size, const char *text)
{
    size_t used = strlen(line);
    for (; *text != '\0' && used + 3 <= size; text++) {
        if (*text == '"' || *text == '\\')
            line[used++] = '\\';
        line[used++] = *text >= 0x20 && *text < 0x7f ? *text : '?';
    }
    line[used] = '\0';
}

void report_end(bool local, const char *code, const char *reason)
{
    char line[MAX_INIT_LINE_BYTES + 1];
    snprintf(line, sizeof line, "{\"code\":\"%s\",\"reason\":\"", code);
    append_escaped(line, sizeof line - strlen("\"}\n"), reason);
    strcat(line, "\"}\n");
    report_line(local, line);
}
