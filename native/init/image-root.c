#include "image-root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/text.h"
#include "end.h"
#include "log.h"
#include "setup.h"

#define IMAGE_ROOT "/rootfs"
#define IMAGE_INIT "/init"
#define IMAGE_MODULES "/modules"

static int is_module(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return length > 3 && strcmp(entry->d_name + length - 3, ".ko") == 0;
}

static void load_module(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd == -1 || (syscall(SYS_finit_module, fd, "", 0) == -1 && errno != EEXIST))
        log_line("no module %s: %s", path, errno_name(errno));
    if (fd != -1)
        close(fd);
}

/* Their names begin with the number of their turn. They are memory, so they go once they are loaded. */
static void load_modules(void)
{
    struct dirent **entries;
    int count = scandir(IMAGE_MODULES, &entries, is_module, alphasort);
    if (count == -1 && errno != ENOENT)
        log_line("no modules: %s", errno_name(errno));
    for (int i = 0; i < count; i++) {
        char path[sizeof IMAGE_MODULES + 1 + sizeof entries[i]->d_name];
        snprintf(path, sizeof path, "%s/%s", IMAGE_MODULES, entries[i]->d_name);
        load_module(path);
        unlink(path);
        free(entries[i]);
    }
    if (count >= 0) {
        free(entries);
        rmdir(IMAGE_MODULES);
    }
}

/* /dev for a console to tell of what fails, and for the modules; it is left before the root changes. */
static void mount_early_devices(void)
{
    mkdir("/dev", 0755);
    if (mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755") == -1 && errno != EBUSY)
        log_line("no early /dev: %s", errno_name(errno));
}

/* The first file system of a kernel cannot be unmounted or pivoted away: the new root is moved over it. */
static bool move_root(void)
{
    return mount(IMAGE_ROOT, IMAGE_ROOT, NULL, MS_BIND, NULL) == 0 && chdir(IMAGE_ROOT) == 0 &&
           mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 && chdir("/") == 0;
}

void enter_image_root(struct machine *machine)
{
    struct stat root;
    mount_early_devices();
    open_console();
    load_modules();
    if (lstat(IMAGE_ROOT, &root) == -1 || !S_ISDIR(root.st_mode))
        end_machine(machine, END_INIT_FAILED, "the image has no " IMAGE_ROOT);
    umount2("/dev", MNT_DETACH);
    unlink(IMAGE_INIT);
    if (!move_root()) {
        char reason[128];
        snprintf(reason, sizeof reason, "cannot enter " IMAGE_ROOT ": %s", errno_name(errno));
        end_machine(machine, END_INIT_FAILED, reason);
    }
}
