/*
 * The root file system of the sandbox:
 *
 *   overlay     lower: the image's tree, never written; upper: a tmpfs of --tmpfs-bytes, gone with the namespace
 *     /proc     of the new pid namespace      \ mounted while the host's own are still in sight: the kernel lets a
 *     /sys      of the new network namespace  / user namespace mount them only where it already sees all of one
 *       fs/cgroup  what the host delegates of its cgroups, if anything
 *     /dev      tmpfs with the host's harmless device nodes bound into it (a user namespace cannot make nodes)
 *     --bind-ro parts of the host, read-only
 */
#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cgroups.h"
#include "mount-api.h"
#include "report.h"
#include "targets.h"

#define NO_OPTIONS ((const struct mount_option[]){{NULL, NULL}})

/* The tmpfs with the overlay's three directories; upper and work must share a file system. */
static int make_scratch(const struct options *options, int target)
{
    char size[32];
    snprintf(size, sizeof size, "%llu", options->tmpfs_bytes);
    const struct mount_option settings[] = {{"size", size}, {"mode", "0755"}, {NULL, NULL}};
    int tmpfs = make_mount("tmpfs", settings, ATTR_NODEV);
    if (tmpfs == -1 || attach_mount(tmpfs, target) == -1)
        fail("mount_tmpfs", options->scratch);
    if (mkdirat(tmpfs, "upper", 0755) == -1 || mkdirat(tmpfs, "work", 0755) == -1 ||
        mkdirat(tmpfs, "root", 0755) == -1)
        fail("mount_tmpfs", "upper, work, root");
    return tmpfs;
}

static int open_inside(int directory, const char *name)
{
    int fd = openat(directory, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd == -1)
        fail("mount_overlay", name);
    return fd;
}

/*
 * An overlay in a user namespace marks opaque directories in user.* attributes. A tmpfs has those since Linux 6.6;
 * before, the kernel mounts without marks, and only replacing a whole directory of the image fails.
 */
static int make_overlay(int tree, int upper, int work)
{
    char paths[3][32];
    const int fds[3] = {tree, upper, work};
    for (int i = 0; i < 3; i++)
        snprintf(paths[i], sizeof paths[i], "/proc/self/fd/%d", fds[i]);
    struct mount_option settings[] = {
        {"lowerdir", paths[0]}, {"upperdir", paths[1]}, {"workdir", paths[2]}, {"userxattr", NULL}, {NULL, NULL},
    };
    int overlay = make_mount("overlay", settings, 0);
    if (overlay != -1 || errno != EINVAL)
        return overlay;
    settings[3].key = NULL;
    return make_mount("overlay", settings, 0);
}

static int mount_overlay(const struct options *options, const struct sources *sources)
{
    int tmpfs = make_scratch(options, sources->scratch);
    int upper = open_inside(tmpfs, "upper");
    int work = open_inside(tmpfs, "work");
    int overlay = make_overlay(sources->tree, upper, work);
    if (overlay == -1 || attach_mount(overlay, open_inside(tmpfs, "root")) == -1)
        fail("mount_overlay", options->root);
    return overlay;
}

/* Mounts a kernel file system. Where the host shows its own only read-only, no more can be had than that. */
static void mount_kernel(int root, const char *type, const char *path, const char *step)
{
    const unsigned attributes = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
    int mount = make_mount(type, NO_OPTIONS, attributes);
    if (mount == -1 && errno == EPERM)
        mount = make_mount(type, NO_OPTIONS, attributes | ATTR_RDONLY);
    if (mount == -1 || attach_mount(mount, open_target(root, path, true, step)) == -1)
        fail(step, path);
}

static void mount_devices(int root, const struct sources *sources)
{
    const struct mount_option settings[] = {{"size", "65536"}, {"mode", "0755"}, {NULL, NULL}};
    int dev = make_mount("tmpfs", settings, ATTR_NOSUID | ATTR_NOEXEC);
    if (dev == -1 || attach_mount(dev, open_target(root, "/dev", true, "mount_dev")) == -1)
        fail("mount_dev", "/dev");
    for (size_t i = 0; i < DEVICE_COUNT; i++) {
        if (sources->devices[i] == -1)
            continue;
        int target = open_target(dev, DEVICE_NAMES[i], false, "device");
        if (attach_mount(sources->devices[i], target) == -1)
            fail("device", DEVICE_NAMES[i]);
    }
}

static void mount_binds(int root, const struct options *options, const struct sources *sources)
{
    for (size_t i = 0; i < options->bind_count; i++) {
        const char *path = options->binds[i].target;
        int target = open_target(root, path, sources->bind_is_directory[i], "bind");
        if (attach_mount(sources->binds[i], target) == -1)
            fail("bind", path);
    }
}

int build_root(const struct options *options, const struct sources *sources)
{
    int root = mount_overlay(options, sources);
    mount_binds(root, options, sources);
    mount_kernel(root, "proc", "/proc", "mount_proc");
    mount_kernel(root, "sysfs", "/sys", "mount_sysfs");
    mount_cgroups(root, options, sources);
    mount_devices(root, sources);
    return root;
}

void enter_root(int root)
{
    if (fchdir(root) == -1)
        fail("pivot_root", "fchdir");
    /* Puts the old root on top of the new one, from where it is taken away. */
    if (syscall(SYS_pivot_root, ".", ".") == -1)
        fail("pivot_root", ".");
    if (umount2(".", MNT_DETACH) == -1)
        fail("umount_old_root", ".");
    if (chdir("/") == -1)
        fail("pivot_root", "chdir");
}
