/*
 * The command line. Only the host's own code calls the launcher, so there is one spelling of everything and no help:
 *
 *   launcher guard [LIFE] -- CMD ARG...
 *   launcher userns MAPS [LIFE] -- CMD ARG...
 *   launcher run MAPS --root TREE --scratch DIR --vsock-dir DIR --tmpfs-bytes N [--bind-ro SRC:DST]...
 *                [--cgroup NAME:DIR]... [LIFE] -- INIT ARG...
 *   MAPS: --map self | --map INSIDE:OUTSIDE:COUNT ...
 *   LIFE: [--lifeline-fd N] [--report-fd N]
 */
#include "options.h"

#include <string.h>

#include "../common/text.h"

#define MAX_ID 4294967294ULL
#define MAX_FD 65535ULL

static bool parse_field(char **rest, unsigned *field)
{
    char *text = strsep(rest, ":");
    unsigned long long value;
    if (text == NULL || !parse_number(text, MAX_ID, &value))
        return false;
    *field = (unsigned)value;
    return true;
}

static bool parse_map(char *value, struct options *options)
{
    if (strcmp(value, "self") == 0) {
        options->map_self = true;
        return options->map_count == 0;
    }
    if (options->map_count == MAX_MAPS || options->map_self)
        return false;
    struct id_map *map = &options->maps[options->map_count++];
    return parse_field(&value, &map->inside) && parse_field(&value, &map->outside) &&
           parse_field(&value, &map->count) && value == NULL && map->count > 0;
}

/* The last colon separates, since only the source is a path of the host and may hold one. */
static bool parse_bind(char *value, struct options *options)
{
    char *colon = strrchr(value, ':');
    if (options->bind_count == MAX_BINDS || colon == NULL || colon == value || colon[1] != '/' || colon[2] == '\0')
        return false;
    *colon = '\0';
    struct bind *bind = &options->binds[options->bind_count++];
    bind->source = value;
    bind->target = colon + 1;
    return true;
}

/* Names are of letters, digits and `_=,`, as in "cpu,cpuacct" and "name=systemd"; the empty one stands alone. */
static bool parse_cgroup(const char *value, struct options *options)
{
    size_t length = strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789_=,");
    bool alone = options->cgroup_count == 0 || (length > 0 && options->cgroups[0].name[0] != '\0');
    if (options->cgroup_count == MAX_CGROUPS || length > MAX_CGROUP_NAME_BYTES || !alone)
        return false;
    if (value[length] != ':' || value[length + 1] != '/')
        return false;
    struct cgroup *cgroup = &options->cgroups[options->cgroup_count++];
    memcpy(cgroup->name, value, length);
    cgroup->name[length] = '\0';
    cgroup->directory = value + length + 1;
    return true;
}

static bool parse_fd(const char *value, int *fd)
{
    unsigned long long number;
    if (!parse_number(value, MAX_FD, &number) || number < 3)
        return false;
    *fd = (int)number;
    return true;
}

static const char *read_sandbox_option(const char *name, char *value, struct options *options)
{
    if (strcmp(name, "--root") == 0)
        options->root = value;
    else if (strcmp(name, "--scratch") == 0)
        options->scratch = value;
    else if (strcmp(name, "--vsock-dir") == 0)
        options->vsock_directory = value;
    else if (strcmp(name, "--bind-ro") == 0)
        return parse_bind(value, options) ? NULL : "--bind-ro is not SRC:DST, or there are more than 32";
    else if (strcmp(name, "--cgroup") == 0)
        return parse_cgroup(value, options) ? NULL : "--cgroup is not NAME:DIR, or there are more than 8";
    else if (strcmp(name, "--tmpfs-bytes") == 0)
        return parse_number(value, 1ULL << 62, &options->tmpfs_bytes) ? NULL : "--tmpfs-bytes is not a number";
    else
        return "unknown option";
    return NULL;
}

static const char *read_option(const char *name, char *value, struct options *options)
{
    if (strcmp(name, "--map") == 0 && options->new_user)
        return parse_map(value, options) ? NULL : "--map is neither self nor INSIDE:OUTSIDE:COUNT";
    if (strcmp(name, "--report-fd") == 0)
        return parse_fd(value, &options->report_fd) ? NULL : "--report-fd is not a descriptor above 2";
    if (strcmp(name, "--lifeline-fd") == 0)
        return parse_fd(value, &options->lifeline_fd) ? NULL : "--lifeline-fd is not a descriptor above 2";
    return options->whole_sandbox ? read_sandbox_option(name, value, options) : "unknown option";
}

static const char *find_omission(const struct options *options)
{
    if (options->new_user && !options->map_self && options->map_count == 0)
        return "--map is required";
    if (!options->whole_sandbox)
        return NULL;
    if (options->root == NULL || options->scratch == NULL || options->vsock_directory == NULL)
        return "--root, --scratch and --vsock-dir are required";
    return options->tmpfs_bytes == 0 ? "--tmpfs-bytes is required and above 0" : NULL;
}

const char *read_options(int argc, char **argv, struct options *options)
{
    memset(options, 0, sizeof *options);
    options->lifeline_fd = -1;
    options->report_fd = -1;
    const char *verb = argc < 2 ? "" : argv[1];
    options->whole_sandbox = strcmp(verb, "run") == 0;
    options->new_user = options->whole_sandbox || strcmp(verb, "userns") == 0;
    if (!options->new_user && strcmp(verb, "guard") != 0)
        return "the first argument is none of run, userns and guard";
    int at = 2;
    for (; at < argc && strcmp(argv[at], "--") != 0; at += 2) {
        if (at + 1 == argc)
            return "option without a value";
        const char *refusal = read_option(argv[at], argv[at + 1], options);
        if (refusal != NULL)
            return refusal;
    }
    if (at + 1 >= argc)
        return "no command after --";
    options->command = &argv[at + 1];
    return find_omission(options);
}
