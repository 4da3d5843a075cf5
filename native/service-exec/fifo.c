/*
 * Makes the pipes through which services write their output.
 *
 * Node can only spawn with socket pairs, and a socket cannot be opened by name: `echo x > /dev/stdout` would fail in a
 * service. A FIFO can, by whoever owns it, so each service gets its own, which the supervisor opens before the spawn.
 */
#include "fifo.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/text.h"
#include "channel.h"

/* (uid_t)-1 would mean "leave as it is". */
#define MAX_ID 4294967294ULL

static int make_fifo(const char *path, unsigned long long uid, unsigned long long gid)
{
    /* One of an earlier supervisor goes; whoever still writes into it writes to nobody. */
    if (unlink(path) != 0 && errno != ENOENT)
        return -1;
    if (mkfifo(path, 0600) != 0)
        return -1;
    return chown(path, (uid_t)uid, (gid_t)gid);
}

int make_fifos(int count, char **arguments)
{
    unsigned long long uid;
    unsigned long long gid;
    if (count < 3 || !parse_number(arguments[0], MAX_ID, &uid) || !parse_number(arguments[1], MAX_ID, &gid))
        refuse("arguments", EINVAL, "--mkfifo takes UID GID PATH...");
    for (int at = 2; at < count; at++) {
        if (make_fifo(arguments[at], uid, gid) != 0)
            refuse("mkfifo", errno, arguments[at]);
    }
    return 0;
}
