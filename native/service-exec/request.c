/*
 * The command line:
 *
 *   service-exec --uid N --gid N [--groups a,b,c] --cwd DIR [--no-setid] -- PROG ARG...
 *
 * Everything is explicit: a missing --uid is refused rather than read as root.
 */
#include "request.h"

#include <string.h>

#include "../common/text.h"

/* (uid_t)-1 means "leave as it is" to the kernel, so it is no identity. */
#define MAX_ID 4294967294ULL

static bool parse_id(const char *text, unsigned *id)
{
    unsigned long long value;
    if (!parse_number(text, MAX_ID, &value))
        return false;
    *id = (unsigned)value;
    return true;
}

/* "a,b,c"; the empty text is the empty list. Cuts the text into its items. */
static bool parse_groups(char *text, struct request *request)
{
    char *rest = *text == '\0' ? NULL : text;
    for (char *item = strsep(&rest, ","); item != NULL; item = strsep(&rest, ",")) {
        if (request->group_count == MAX_GROUPS || !parse_id(item, &request->groups[request->group_count]))
            return false;
        request->group_count++;
    }
    return true;
}

struct seen {
    bool uid;
    bool gid;
};

/* Reads one option with its value. */
static const char *read_option(const char *name, char *value, struct request *request, struct seen *seen)
{
    if (strcmp(name, "--uid") == 0) {
        seen->uid = parse_id(value, &request->uid);
        return seen->uid ? NULL : "--uid is not a number";
    }
    if (strcmp(name, "--gid") == 0) {
        seen->gid = parse_id(value, &request->gid);
        return seen->gid ? NULL : "--gid is not a number";
    }
    if (strcmp(name, "--groups") == 0)
        return parse_groups(value, request) ? NULL : "--groups is not a list of at most 64 numbers";
    if (strcmp(name, "--cwd") == 0) {
        request->directory = value;
        return NULL;
    }
    return "unknown option";
}

const char *read_request(int argc, char **argv, struct request *request)
{
    struct seen seen = {false, false};
    int at = 1;
    for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
        if (strcmp(argv[at], "--no-setid") == 0) {
            request->set_identity = false;
            continue;
        }
        if (at + 1 == argc)
            return "option without a value";
        const char *refusal = read_option(argv[at], argv[at + 1], request, &seen);
        if (refusal != NULL)
            return refusal;
        at++;
    }
    if (!seen.uid || !seen.gid || request->directory == NULL)
        return "--uid, --gid and --cwd are required";
    if (at + 1 >= argc)
        return "no program after --";
    request->command = &argv[at + 1];
    return NULL;
}
