/*
 * Capabilities. Leaving uid 0 empties the sets, but not every service leaves it: uid 0 gets all that the bounding set
 * allows back at exec, so that set is what must be emptied. Ambient capabilities are how another uid than 0 has one
 * after exec without a file that says so.
 */
#include "capabilities.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool is_kept(const struct request *request, unsigned number)
{
    return (request->capabilities >> number & 1) != 0;
}

static bool has_none(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    return syscall(SYS_capget, &header, sets) == 0 && sets[0].permitted == 0 && sets[1].permitted == 0;
}

bool narrow_bounding_set(struct request *request)
{
    for (unsigned number = 0; number < 64; number++) {
        int present = prctl(PR_CAPBSET_READ, number, 0, 0, 0);
        /* EINVAL: beyond the last capability of this kernel. */
        if (present == -1)
            return errno == EINVAL;
        if (present == 0 || is_kept(request, number))
            continue;
        if (prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == -1)
            /* An ordinary user may not narrow it, and need not: without privileges no_new_privs bars the way to any. */
            return errno == EPERM && has_none();
    }
    return true;
}

bool keep_capabilities(struct request *request)
{
    return request->capabilities == 0 || prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0;
}

static bool raise_ambient(const struct request *request)
{
    for (unsigned number = 0; number < 64; number++) {
        if (is_kept(request, number) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) == -1)
            return false;
    }
    return true;
}

bool take_capabilities(struct request *request)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        uint32_t kept = (uint32_t)(request->capabilities >> (32 * i));
        sets[i] = (struct __user_cap_data_struct){.effective = kept, .permitted = kept, .inheritable = kept};
    }
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0 &&
           syscall(SYS_capset, &header, sets) == 0 && raise_ambient(request);
}
