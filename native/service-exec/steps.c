/*
 * The steps between the supervisor's fork and the service's first instruction. The order matters:
 *   - groups before gid before uid, because setting each needs the privilege that the uid still has;
 *   - the death signal after the uid, because a change of identity clears it;
 *   - the directory after the uid, so that a service cannot start where its own user may not go;
 *   - descriptors last, so that nothing a step opened is left.
 */
#include "steps.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/descriptors.h"
#include "../common/signals.h"
#include "channel.h"

static bool make_session(const struct request *request)
{
    (void)request;
    /* EPERM: already the leader of a process group, which the supervisor may have arranged. */
    return setsid() != -1 || errno == EPERM;
}

static bool take_groups(const struct request *request)
{
    return !request->set_identity || setgroups(request->group_count, request->groups) == 0;
}

static bool take_gid(const struct request *request)
{
    gid_t gid = request->gid;
    return !request->set_identity || setresgid(gid, gid, gid) == 0;
}

static bool take_uid(const struct request *request)
{
    uid_t uid = request->uid;
    return !request->set_identity || setresuid(uid, uid, uid) == 0;
}

static bool renounce_privileges(const struct request *request)
{
    (void)request;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

/* The check afterwards closes the race with a supervisor that died before the signal was asked for. */
static bool die_with_supervisor(const struct request *request)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1)
        return false;
    if (getppid() == request->parent)
        return true;
    errno = ESRCH;
    return false;
}

static bool enter_directory(const struct request *request)
{
    return chdir(request->directory) == 0;
}

static bool set_mask(const struct request *request)
{
    (void)request;
    umask(022);
    return true;
}

static bool clear_signals(const struct request *request)
{
    (void)request;
    return reset_signals();
}

static bool close_descriptors(const struct request *request)
{
    (void)request;
    close_from(ERROR_FD + 1);
    return !is_open(ERROR_FD) || set_close_on_exec(ERROR_FD, true);
}

const struct step STEPS[] = {
    {"session", make_session},
    {"groups", take_groups},
    {"gid", take_gid},
    {"uid", take_uid},
    {"no_new_privs", renounce_privileges},
    {"supervisor", die_with_supervisor},
    {"directory", enter_directory},
    {"umask", set_mask},
    {"signals", clear_signals},
    {"descriptors", close_descriptors},
    {NULL, NULL},
};
