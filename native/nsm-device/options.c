/*
 * The command line:
 *
 *   nsm-device --uid N --gid N --owner U:G [--timeout-ms N]
 */
#include "options.h"

#include <stdio.h>
#include <string.h>

#include "../common/text.h"

/* (uid_t)-1 means "leave as it is" to the kernel, so it is no identity. */
#define MAX_ID 4294967294ULL
/* As the driver of the real device: a program that waits longer than that waits for something else. */
#define MAX_TIMEOUT_MS 120000

static bool parse_id(const char *text, unsigned *id)
{
    unsigned long long value;
    if (!parse_number(text, MAX_ID, &value))
        return false;
    *id = (unsigned)value;
    return true;
}

/* "U:G". The command line stays as it is, for who lists processes. */
static bool parse_owner(const char *text, struct options *options)
{
    char owner[16];
    const char *colon = strchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= sizeof owner)
        return false;
    snprintf(owner, sizeof owner, "%.*s", (int)(colon - text), text);
    return parse_id(owner, &options->owner) && parse_id(colon + 1, &options->group);
}

static bool read_uid(const char *value, struct options *options)
{
    return parse_id(value, &options->uid);
}

static bool read_gid(const char *value, struct options *options)
{
    return parse_id(value, &options->gid);
}

static bool read_owner(const char *value, struct options *options)
{
    options->owned = parse_owner(value, options);
    return options->owned;
}

static bool read_timeout(const char *value, struct options *options)
{
    unsigned long long number;
    if (!parse_number(value, MAX_TIMEOUT_MS, &number) || number == 0)
        return false;
    options->timeout_ms = (int)number;
    return true;
}

static const struct {
    const char *name;
    bool (*read)(const char *value, struct options *options);
    const char *refusal;
} OPTIONS[] = {
    {"--uid", read_uid, "--uid is not a number"},
    {"--gid", read_gid, "--gid is not a number"},
    {"--owner", read_owner, "--owner is not UID:GID"},
    {"--timeout-ms", read_timeout, "--timeout-ms is not a number from 1 to 120000"},
};

/* Reads one option with its value. */
static const char *read_option(const char *name, const char *value, struct options *options)
{
    for (size_t i = 0; i < sizeof OPTIONS / sizeof OPTIONS[0]; i++) {
        if (strcmp(name, OPTIONS[i].name) == 0)
            return OPTIONS[i].read(value, options) ? NULL : OPTIONS[i].refusal;
    }
    return "unknown option";
}

const char *read_options(int argc, char *const *argv, struct options *options)
{
    *options = (struct options){.timeout_ms = MAX_TIMEOUT_MS};
    for (int at = 1; at < argc; at += 2) {
        if (at + 1 == argc)
            return "option without a value";
        const char *refusal = read_option(argv[at], argv[at + 1], options);
        if (refusal != NULL)
            return refusal;
    }
    if (options->uid == 0 || options->gid == 0)
        return "--uid and --gid are required, and are not root's";
    return options->owned ? NULL : "--owner is required";
}
