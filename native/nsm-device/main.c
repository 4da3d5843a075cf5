/*
 * nsm-device: makes /dev/nsm in a guest that has no Nitro Security Module, by CUSE, and forwards each request to the
 * development NSM on the host. Programs that know the real device find it as they know it.
 *
 * It starts as root, which making a device takes, and goes on as nobody in particular. Descriptor 3, where it is open,
 * gets one line `ready` when the device may be opened. SIGTERM ends it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "../common/descriptors.h"
#include "../common/signals.h"
#include "../common/text.h"
#include "channel.h"
#include "log.h"
#include "node.h"
#include "options.h"
#include "privileges.h"
#include "serve.h"

#define READY_FD 3
#define EXIT_FAILED 1
#define EXIT_USAGE 2

static _Noreturn void fail(const char *subject)
{
    log_line("%s: %s", subject, errno_name(errno));
    _exit(EXIT_FAILED);
}

/* Nothing that is opened later may take the number of a descriptor that has a meaning. */
static void claim_descriptors(void)
{
    close_from(READY_FD + 1);
    for (int fd = STDIN_FILENO; fd <= READY_FD; fd++) {
        if (!is_open(fd) && (open("/dev/null", O_RDWR | O_CLOEXEC) == -1 || !is_open(fd)))
            fail("/dev/null");
    }
}

static void say_ready(void)
{
    static const char line[] = "ready\n";
    /* Who started it may not care. */
    write_all(READY_FD, line, strlen(line));
    close(READY_FD);
}

static void set_up(const struct options *options, pid_t parent, int channel)
{
    if (!make_node(options->owner, options->group))
        fail(NODE_PATH);
    if (!create_device(channel))
        fail("CUSE");
    if (!drop_privileges(options->uid, options->gid, parent))
        fail("privileges");
}

int main(int argc, char **argv)
{
    struct options options;
    const pid_t parent = getppid();
    const char *refusal = read_options(argc, argv, &options);
    if (refusal != NULL) {
        log_line("%s", refusal);
        return EXIT_USAGE;
    }
    claim_descriptors();
    signal(SIGPIPE, SIG_IGN);
    int signals = open_signals((const int[]){SIGTERM, SIGINT, 0});
    if (signals == -1)
        fail("signalfd");
    int channel = open_channel();
    if (channel == -1)
        fail("/dev/cuse");
    set_up(&options, parent, channel);
    say_ready();
    if (serve_device(channel, signals, options.timeout_ms) == 0)
        return 0;
    fail("CUSE");
}
