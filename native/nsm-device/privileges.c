#include "privileges.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

/* The death signal comes last, because a change of identity clears it; a parent that died before is seen after. */
bool drop_privileges(uid_t uid, gid_t gid, pid_t parent)
{
    if (setgroups(0, NULL) == -1 || setresgid(gid, gid, gid) == -1 || setresuid(uid, uid, uid) == -1 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1)
        return false;
    errno = ESRCH;
    return getppid() == parent;
}
