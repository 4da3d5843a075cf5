/*
 * cgroups: version 2 where it controls memory, else one version 1 hierarchy a controller (AWS's 4.14 kernel, and hosts
 * that mount version 1, where version 2 exists but controls little or nothing). What a user namespace mounts it may not
 * write: there the launcher has bound what its host delegates, and where it delegates nothing there are no limits by
 * cgroup, and RLIMIT_NPROC is what bounds a fork bomb.
 *
 * /proc/cgroups has a heading, then lines of: name, hierarchy, number of cgroups, enabled (0 or 1).
 */
#include "cgroups.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "mounts.h"

#define ROOT "/sys/fs/cgroup"
#define FLAGS (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static bool controls_memory(void)
{
    char text[256];
    return read_file(ROOT "/cgroup.controllers", text, sizeof text) > 0 && strstr(text, "memory") != NULL;
}

static bool mount_version_2(void)
{
    if (mount("cgroup2", ROOT, "cgroup2", FLAGS, NULL) == -1)
        return false;
    if (controls_memory())
        return true;
    umount2(ROOT, MNT_DETACH);
    return false;
}

/* True if the line of /proc/cgroups names an enabled controller; its name goes to `name` (32 bytes). */
static bool read_controller(const char *line, char *name)
{
    int enabled = 0;
    return line[0] != '#' && sscanf(line, "%31s %*u %*u %d", name, &enabled) == 2 && enabled == 1;
}

static int mount_controllers(char *lines)
{
    int mounted = 0;
    for (char *line = strsep(&lines, "\n"); line != NULL; line = strsep(&lines, "\n")) {
        char name[32];
        char path[64];
        if (!read_controller(line, name))
            continue;
        snprintf(path, sizeof path, ROOT "/%s", name);
        if (mkdir(path, 0755) == 0 && mount("cgroup", path, "cgroup", FLAGS, name) == 0)
            mounted++;
        else
            rmdir(path);
    }
    return mounted;
}

static void mount_version_1(void)
{
    char lines[2048];
    if (read_file("/proc/cgroups", lines, sizeof lines) <= 0)
        return;
    if (mount("tmpfs", ROOT, "tmpfs", FLAGS, "mode=0755,size=64k") == -1)
        return;
    if (mount_controllers(lines) == 0)
        umount2(ROOT, MNT_DETACH);
}

void mount_cgroups(void)
{
    struct stat status;
    if (stat(ROOT, &status) == -1 || is_mount_point(ROOT) || mount_version_2())
        return;
    mount_version_1();
}
