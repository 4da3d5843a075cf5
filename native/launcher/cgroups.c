/*
 * cgroups that the host made for the sandbox and gave to its uid 0. The directories are bound where a machine would
 * mount hierarchies, so that the sandbox sees these and no hierarchy in which nothing is its own:
 *
 *   version 2   the directory itself at /sys/fs/cgroup
 *   version 1   a tmpfs at /sys/fs/cgroup, in it one directory a hierarchy
 *
 * Only the host may move a process into them, and the namespace comes after the move: its root is where the process is.
 */
#include "cgroups.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "mount-api.h"
#include "report.h"
#include "targets.h"

#define MOUNT_POINT "/sys/fs/cgroup"
#define STEP "cgroup"

void open_cgroups(const struct options *options, int *members)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < options->cgroup_count; i++) {
        const char *directory = options->cgroups[i].directory;
        errno = ENAMETOOLONG;
        bool fits = snprintf(path, sizeof path, "%s/cgroup.procs", directory) < (int)sizeof path;
        members[i] = fits ? open(path, O_WRONLY | O_CLOEXEC) : -1;
        if (members[i] == -1)
            fail(STEP, directory);
    }
}

void move_into_cgroups(const struct options *options, const int *members, pid_t child)
{
    for (size_t i = 0; i < options->cgroup_count; i++) {
        if (dprintf(members[i], "%d", (int)child) < 0)
            fail(STEP, options->cgroups[i].directory);
        close(members[i]);
    }
}

void enter_cgroup_namespace(void)
{
    /* EINVAL: a kernel without them. */
    if (unshare(CLONE_NEWCGROUP) == -1 && errno != EINVAL)
        fail(STEP, "unshare");
}

static int mount_hierarchies(int root)
{
    const struct mount_option settings[] = {{"size", "65536"}, {"mode", "0755"}, {NULL, NULL}};
    int tmpfs = make_mount("tmpfs", settings, ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC);
    if (tmpfs == -1 || attach_mount(tmpfs, open_target(root, MOUNT_POINT, true, STEP)) == -1)
        fail(STEP, MOUNT_POINT);
    return tmpfs;
}

void mount_cgroups(int root, const struct options *options, const struct sources *sources)
{
    if (options->cgroup_count == 0)
        return;
    bool unified = options->cgroups[0].name[0] == '\0';
    int parent = unified ? root : mount_hierarchies(root);
    for (size_t i = 0; i < options->cgroup_count; i++) {
        const char *path = unified ? MOUNT_POINT : options->cgroups[i].name;
        if (attach_mount(sources->cgroups[i], open_target(parent, path, true, STEP)) == -1)
            fail(STEP, path);
    }
}
