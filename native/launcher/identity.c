/*
 * Who the sandbox is. A new user namespace has no ids until its maps are written, once, from outside:
 *   - `self` maps one uid and one gid, the caller's own, to 0. Anyone may; the price is that setgroups must be denied
 *     first, and that no second uid exists inside.
 *   - a range is written directly where the caller has the privilege (root), else by newuidmap and newgidmap, the
 *     setuid tools that hold it against /etc/subuid and /etc/subgid.
 */
#include "identity.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/control-file.h"
#include "../common/signals.h"
#include "report.h"

/* Bytes of a map as text: three numbers of up to 10 digits a line. */
#define MAP_TEXT_BYTES (MAX_MAPS * 36)

static int write_process_file(pid_t child, const char *name, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)child, name);
    return write_control_file(path, text) ? 0 : -1;
}

static void format_maps(const struct options *options, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < options->map_count && used < size; i++) {
        const struct id_map *map = &options->maps[i];
        used += (size_t)snprintf(text + used, size - used, "%u %u %u\n", map->inside, map->outside, map->count);
    }
}

static _Noreturn void exec_tool(const struct options *options, pid_t child, const char *tool)
{
    static char numbers[1 + 3 * MAX_MAPS][12];
    static char *argv[3 + 3 * MAX_MAPS];
    size_t used = 0;
    argv[used++] = (char *)tool;
    snprintf(numbers[0], sizeof numbers[0], "%d", (int)child);
    argv[used++] = numbers[0];
    for (size_t i = 0; i < options->map_count; i++) {
        const struct id_map *map = &options->maps[i];
        const unsigned fields[3] = {map->inside, map->outside, map->count};
        for (size_t j = 0; j < 3; j++, used++) {
            snprintf(numbers[used - 1], sizeof numbers[0], "%u", fields[j]);
            argv[used] = numbers[used - 1];
        }
    }
    reset_signals();
    execvp(tool, argv);
    fail(tool, "cannot run it (Debian package uidmap)");
}

static void run_tool(const struct options *options, pid_t child, const char *tool)
{
    pid_t pid = fork();
    if (pid == -1)
        fail(tool, "fork");
    if (pid == 0)
        exec_tool(options, child, tool);
    int status;
    while (waitpid(pid, &status, 0) == -1) {
        if (errno != EINTR)
            fail(tool, "waitpid");
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    /* It could not even be executed, and has said so itself. */
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_LAUNCH_FAILED)
        _exit(EXIT_LAUNCH_FAILED);
    errno = EPERM;
    fail(tool, "it refused the map: /etc/subuid and /etc/subgid must grant the range to this user");
}

static void write_range(const struct options *options, pid_t child, const char *file, const char *tool)
{
    char text[MAP_TEXT_BYTES];
    format_maps(options, text, sizeof text);
    if (write_process_file(child, file, text) == 0)
        return;
    if (errno != EPERM)
        fail(file, text);
    run_tool(options, child, tool);
}

/* True for root of the host, as opposed to root of some user namespace that the launcher runs in. */
static bool is_host_root(void)
{
    FILE *file = fopen("/proc/self/uid_map", "re");
    unsigned inside = 1;
    unsigned outside = 1;
    unsigned count = 0;
    if (file != NULL && fscanf(file, "%u %u %u", &inside, &outside, &count) != 3)
        count = 0;
    if (file != NULL)
        fclose(file);
    return geteuid() == 0 && inside == 0 && outside == 0 && count == 4294967295U;
}

static void write_self(const struct options *options, pid_t child)
{
    char text[MAP_TEXT_BYTES];
    /* Files of the kernel (/proc/sys, cgroups) obey the host's uid 0 wherever it sits: that would be no sandbox. */
    if (options->whole_sandbox && is_host_root()) {
        errno = EPERM;
        fail("uid_map", "root of the host must map a range, not itself");
    }
    snprintf(text, sizeof text, "0 %u 1\n", (unsigned)geteuid());
    if (write_process_file(child, "uid_map", text) == -1)
        fail("uid_map", text);
    if (write_process_file(child, "setgroups", "deny") == -1)
        fail("setgroups", "deny");
    snprintf(text, sizeof text, "0 %u 1\n", (unsigned)getegid());
    if (write_process_file(child, "gid_map", text) == -1)
        fail("gid_map", text);
}

void write_maps(const struct options *options, pid_t child)
{
    if (options->map_self) {
        write_self(options, child);
        return;
    }
    write_range(options, child, "uid_map", "newuidmap");
    write_range(options, child, "gid_map", "newgidmap");
}

void become_root(const struct options *options)
{
    /* With one uid setgroups is denied for good, and the caller's groups stay: unnamed inside, but effective. */
    if (!options->map_self && setgroups(0, NULL) == -1)
        fail("setgroups", "0 groups");
    if (setresgid(0, 0, 0) == -1)
        fail("setresgid", "0");
    if (setresuid(0, 0, 0) == -1)
        fail("setresuid", "0");
}
