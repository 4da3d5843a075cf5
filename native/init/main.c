/*
 * init: PID 1 of every machine, in the local backend's namespaces as in a VM.
 *
 * It does what only PID 1 can do and parses nothing that comes from outside. Its arguments are ignored (a kernel hands
 * words of its command line to init), and whatever is missing makes a smaller machine, not a dead one: the only thing
 * that it cannot do without is a supervisor.
 */
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/descriptors.h"
#include "../common/signals.h"
#include "end.h"
#include "image-root.h"
#include "log.h"
#include "machine.h"
#include "mounts.h"
#include "network.h"
#include "parent.h"
#include "resolver.h"
#include "setup.h"
#include "watch.h"

/* The launcher passes a directory as descriptor 3; a kernel passes nothing. Nothing else decides. */
static bool take_vsock_directory(void)
{
    bool local = is_directory(SUPERVISOR_FD_VSOCK_DIRECTORY) && set_close_on_exec(SUPERVISOR_FD_VSOCK_DIRECTORY, true);
    close_from(local ? SUPERVISOR_FD_VSOCK_DIRECTORY + 1 : SUPERVISOR_FD_VSOCK_DIRECTORY);
    return local;
}

/* Signals are opened after the console, which may be what takes descriptors 0 to 2. */
static void set_up(struct machine *machine)
{
    umask(022);
    if (!machine->local)
        enter_image_root(machine);
    mount_filesystems();
    open_console();
    machine->signals = open_signals((const int[]){SIGCHLD, SIGTERM, SIGINT, 0});
    if (machine->signals == -1)
        end_machine(machine, END_INIT_FAILED, "no signalfd");
    start_network();
    name_resolver();
    set_hostname();
    set_limits();
    send_heartbeat(machine->local);
}

int main(void)
{
    struct machine machine = {.notify = -1, .previous_exit = "none"};
    /* Outside of a machine of its own, killing every process would kill the host's. */
    if (getpid() != 1) {
        log_line("not started: only PID 1 of an enclave runs this");
        return 2;
    }
    machine.local = take_vsock_directory();
    set_up(&machine);
    watch_machine(&machine);
}
