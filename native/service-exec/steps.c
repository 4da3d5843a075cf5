/*
 * The steps between the supervisor's fork and the service's first instruction. The order matters:
 *   - cgroups before everything, so that all that follows is charged to the service;
 *   - the mask before the mount namespace, in which directories are made;
 *   - the filter's file before the mount namespace, which may hide it;
 *   - limits after whatever opens files, but with the privilege to raise them;
 *   - the bounding set while there is the privilege to narrow it;
 *   - groups before gid before uid, because setting each needs the privilege that the uid still has;
 *   - the death signal after the uid, because a change of identity clears it;
 *   - the directory after the uid, so that a service cannot start where its own user may not go;
 *   - descriptors after that, so that nothing a step opened is left;
 *   - the terminal after the uid, whose it is to be;
 *   - the filter last, because it may forbid any of this.
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
#include "capabilities.h"
#include "cgroup.h"
#include "channel.h"
#include "confine.h"
#include "rlimits.h"
#include "seccomp.h"
#include "terminal.h"

static bool make_session(struct request *request)
{
    (void)request;
    /* EPERM: already the leader of a process group, which the supervisor may have arranged. */
    return setsid() != -1 || errno == EPERM;
}

static bool take_groups(struct request *request)
{
    return !request->set_identity || setgroups(request->group_count, request->groups) == 0;
}

static bool take_gid(struct request *request)
{
    gid_t gid = request->gid;
    return !request->set_identity || setresgid(gid, gid, gid) == 0;
}

static bool take_uid(struct request *request)
{
    uid_t uid = request->uid;
    return !request->set_identity || setresuid(uid, uid, uid) == 0;
}

static bool renounce_privileges(struct request *request)
{
    (void)request;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

/* The check afterwards closes the race with a supervisor that died before the signal was asked for. */
static bool die_with_supervisor(struct request *request)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1)
        return false;
    if (getppid() == request->parent)
        return true;
    errno = ESRCH;
    return false;
}

static bool enter_directory(struct request *request)
{
    request->subject = request->directory;
    return chdir(request->directory) == 0;
}

static bool set_mask(struct request *request)
{
    (void)request;
    umask(022);
    return true;
}

static bool clear_signals(struct request *request)
{
    (void)request;
    return reset_signals();
}

static bool close_descriptors(struct request *request)
{
    close_from(request->terminal ? SIZES_FD + 1 : ERROR_FD + 1);
    return !is_open(ERROR_FD) || set_close_on_exec(ERROR_FD, true);
}

const struct step STEPS[] = {
    {"session", make_session},
    {"cgroup", join_cgroups},
    {"oom_score", set_oom_score},
    {"umask", set_mask},
    {"seccomp_file", read_filter},
    {"confine", confine},
    {"rlimit", set_limits},
    {"bounding_set", narrow_bounding_set},
    {"groups", take_groups},
    {"gid", take_gid},
    {"keep_capabilities", keep_capabilities},
    {"uid", take_uid},
    {"capabilities", take_capabilities},
    {"no_new_privs", renounce_privileges},
    {"supervisor", die_with_supervisor},
    {"directory", enter_directory},
    {"signals", clear_signals},
    {"descriptors", close_descriptors},
    {"terminal", open_terminal},
    {"seccomp", install_filter},
    {NULL, NULL},
};
