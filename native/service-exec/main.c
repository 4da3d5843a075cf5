/*
 * service-exec: runs inside the enclave, between the supervisor's fork and a service's own program.
 *
 * Node can set a child's uid and gid but not its groups, capabilities, limits, mounts or death signal, and whatever it
 * cannot do must not be done by a shell. So the supervisor spawns this, and this becomes the service. The environment
 * is passed on exactly as it came.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "channel.h"
#include "fifo.h"
#include "lookup.h"
#include "request.h"
#include "steps.h"

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--mkfifo") == 0)
        return make_fifos(argc - 2, argv + 2);
    struct request request = {.set_identity = true, .parent = getppid()};
    const char *refusal = read_request(argc, argv, &request);
    if (refusal != NULL)
        refuse("arguments", EINVAL, refusal);
    for (const struct step *step = STEPS; step->name != NULL; step++) {
        request.subject = NULL;
        if (!step->run(&request))
            refuse(step->name, errno, request.subject == NULL ? request.command[0] : request.subject);
    }
    int number = execute(request.command, environ);
    refuse("exec", number, request.command[0]);
}
