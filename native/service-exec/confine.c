/*
 * The service's own view of the file system. Same root, same user namespace, but a mount namespace of its own in which
 *
 *   /dev           holds what every program may expect and no other device; /dev/nsm where it is asked for
 *   /sys           and the kernel's switches in /proc are read-only
 *   /proc          does not show memory, keys and timers of the whole machine
 *   /run/enclave   is empty: the supervisor's sockets and pipes are not for services
 *
 * It is made with mount(2) alone, because AWS's 4.14 kernel has nothing newer. What is covered stays mounted below;
 * a service without capabilities cannot take the cover off, and in a user namespace that it makes, covers are locked.
 */
#include "confine.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "devices.h"
#include "read-only.h"

#define RUN_DIRECTORY "/run/enclave"

/* Directories of the running kernel that change it. */
static const char *const PROTECTED[] = {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"};
/* Files of the running kernel that tell about everybody. */
static const char *const MASKED[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list"};

static bool enter_namespace(const char **subject)
{
    *subject = "/";
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static bool protect_kernel(const char **subject)
{
    *subject = "/sys";
    if (!protect_mounts("/sys"))
        return false;
    for (size_t i = 0; i < sizeof PROTECTED / sizeof PROTECTED[0]; i++) {
        *subject = PROTECTED[i];
        if (!protect_path(PROTECTED[i]))
            return false;
    }
    return true;
}

static bool exists(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0 || errno != ENOENT;
}

static bool mask_files(const char **subject)
{
    for (size_t i = 0; i < sizeof MASKED / sizeof MASKED[0]; i++) {
        *subject = MASKED[i];
        if (exists(MASKED[i]) && mount("/dev/null", MASKED[i], NULL, MS_BIND, NULL) == -1)
            return false;
    }
    return true;
}

static bool cover_run(const char **subject)
{
    *subject = RUN_DIRECTORY;
    if (!exists(RUN_DIRECTORY))
        return true;
    return mount("tmpfs", RUN_DIRECTORY, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
                 "mode=0755,size=4k") == 0;
}

bool confine(struct request *request)
{
    const char **subject = &request->subject;
    return !request->confine || (enter_namespace(subject) && replace_devices(request->nsm, subject) &&
                                 protect_kernel(subject) && mask_files(subject) && cover_run(subject));
}
