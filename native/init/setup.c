/* The small properties of a machine: console, host name, limits. */
#include "setup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../common/descriptors.h"
#include "../common/layout.h"
#include "../common/text.h"
#include "file.h"
#include "log.h"

#define MAX_HOSTNAME_BYTES 64
#define MAX_OPEN_FILES 65536
#define MAX_PROCESSES 4096

/* A kernel that found no /dev/console in the initramfs starts init with no descriptors at all. */
void open_console(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (is_open(fd))
            continue;
        int console = open(fd == 0 ? "/dev/null" : "/dev/console", O_RDWR | O_NOCTTY);
        if (console == -1)
            console = open("/dev/null", O_RDWR);
        if (console != -1 && console != fd) {
            place_descriptor(console, fd);
            close(console);
        }
    }
}

void set_hostname(void)
{
    char text[256];
    const char *name = text;
    if (read_file("/etc/hostname", text, sizeof text) == -1)
        text[0] = '\0';
    text[strcspn(text, " \t\r\n")] = '\0';
    size_t length = strlen(text);
    /* Without a name of its own the machine would show that of the host it was started on. */
    if (length == 0 || length > MAX_HOSTNAME_BYTES) {
        name = "localhost";
        length = strlen(name);
    }
    if (sethostname(name, length) == -1)
        log_line("no host name: %s", errno_name(errno));
}

/* Sets both limits to `wanted`, or as near below as the inherited hard limit allows. */
static void apply_limit(__rlimit_resource_t resource, rlim_t wanted, const char *name)
{
    struct rlimit limit = {.rlim_cur = wanted, .rlim_max = wanted};
    if (setrlimit(resource, &limit) == 0)
        return;
    if (getrlimit(resource, &limit) == -1) {
        log_line("no limit %s: %s", name, errno_name(errno));
        return;
    }
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(resource, &limit) == -1)
        log_line("no limit %s: %s", name, errno_name(errno));
}

/*
 * RLIMIT_NPROC is what bounds a fork bomb where there are no cgroups. It is set here and not by the launcher for two
 * reasons. Since Linux 5.14 processes are counted for each user namespace and uid: set inside, the limit counts only
 * this machine's processes, not everything else that the same user runs on the host. And whoever has a limit when he
 * makes a user namespace hands it to the namespace as the limit for all its uids together.
 * Root of a VM is exempt, as root always is; services under their own uids are not.
 */
void set_limits(void)
{
    apply_limit(RLIMIT_NOFILE, MAX_OPEN_FILES, "open files");
    apply_limit(RLIMIT_NPROC, MAX_PROCESSES, "processes");
}
