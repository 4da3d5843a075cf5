/*
 * Read-only places. A mount in a user namespace may have flags that are locked: a remount that leaves one of them out
 * is refused, so it names all that are there. (Without one that is about access times, those stay as they are.)
 */
#include "read-only.h"

#include <errno.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#define LOCKABLE (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)

static bool remount(const char *path)
{
    struct statvfs status;
    if (statvfs(path, &status) == -1)
        return false;
    /* The flags of statvfs have the values of those of mount(). */
    unsigned long flags = status.f_flag & LOCKABLE;
    if ((flags & MS_RDONLY) != 0)
        return true;
    return mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL) == 0;
}

/* ENOENT: another mount covers it, so nobody gets there. */
static bool is_read_only(const char *path)
{
    struct statvfs status;
    if (statvfs(path, &status) == -1)
        return errno == ENOENT;
    errno = EPERM;
    return (status.f_flag & ST_RDONLY) != 0;
}

static bool is_within(const char *path, const char *folder)
{
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

/* Calls `visit` for the place of every mount at or below `folder`; false if one call was, or the table is unreadable. */
static bool visit_mounts(const char *folder, bool (*visit)(const char *path))
{
    struct mntent entry;
    static char line[4 * PATH_MAX];
    bool good = true;
    FILE *table = setmntent("/proc/self/mounts", "re");
    if (table == NULL)
        return false;
    while (good && getmntent_r(table, &entry, line, sizeof line) != NULL) {
        if (is_within(entry.mnt_dir, folder))
            good = visit(entry.mnt_dir);
    }
    int number = errno;
    endmntent(table);
    errno = number;
    return good;
}

/* A mount that is covered cannot be reached by its path; whether all that can be reached is done, is checked after. */
static bool try_remount(const char *path)
{
    remount(path);
    return true;
}

bool protect_mounts(const char *path)
{
    return visit_mounts(path, try_remount) && visit_mounts(path, is_read_only);
}

bool protect_path(const char *path)
{
    if (mount(path, path, NULL, MS_BIND, NULL) == -1)
        return errno == ENOENT;
    return remount(path);
}
