/*
 * Starting the supervisor. What it is, the image says: /opt/enclave/supervisor.argv, one argument a line. init adds
 *
 *   --generation N --previous-exit TEXT
 *
 * so that a restarted supervisor knows that it is one, and why. It gets exactly these descriptors: 0 /dev/null, 1 and
 * 2 init's own, 3 the vsock directory (local backend only), 4 the notify pipe.
 */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/descriptors.h"
#include "../common/signals.h"
#include "../common/text.h"
#include "end.h"
#include "file.h"
#include "log.h"

#define EXIT_NOT_EXECUTED 127

struct command {
    char text[SUPERVISOR_ARGV_MAX_BYTES + 1];
    char generation[12];
    char *argv[SUPERVISOR_ARGV_MAX_ARGUMENTS + 5];
};

static void read_text(const struct machine *machine, struct command *command)
{
    char reason[128];
    if (read_file(RUNTIME_SUPERVISOR_ARGV, command->text, sizeof command->text) > 0)
        return;
    snprintf(reason, sizeof reason, "cannot read %s: %s", RUNTIME_SUPERVISOR_ARGV,
             errno == 0 ? "empty" : errno_name(errno));
    end_machine(machine, END_INIT_FAILED, reason);
}

static void read_command(struct machine *machine, struct command *command)
{
    size_t count = 0;
    char *rest = command->text;
    errno = 0;
    read_text(machine, command);
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        /* The text after the last newline is no argument. */
        if (*line == '\0' && rest == NULL)
            break;
        if (count == SUPERVISOR_ARGV_MAX_ARGUMENTS)
            end_machine(machine, END_INIT_FAILED, "more than 32 arguments in " RUNTIME_SUPERVISOR_ARGV);
        command->argv[count++] = line;
    }
    snprintf(command->generation, sizeof command->generation, "%u", machine->generation);
    command->argv[count++] = "--generation";
    command->argv[count++] = command->generation;
    command->argv[count++] = "--previous-exit";
    command->argv[count++] = machine->previous_exit;
    command->argv[count] = NULL;
}

/* In the child. Everything of init's is close-on-exec, so only what is placed here is passed on. */
static _Noreturn void become_supervisor(const struct machine *machine, struct command *command, int notify)
{
    char *environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
                           "LANG=C.UTF-8", NULL};
    bool ready = setsid() != -1 && reset_signals() && silence_stdin() &&
                 place_descriptor(notify, SUPERVISOR_FD_NOTIFY) &&
                 (!machine->local || set_close_on_exec(SUPERVISOR_FD_VSOCK_DIRECTORY, false)) && chdir("/") == 0;
    if (ready) {
        close_from(SUPERVISOR_FD_NOTIFY + 1);
        execve(command->argv[0], command->argv, environment);
    }
    log_line("cannot execute %s: %s", command->argv[0], errno_name(errno));
    _exit(EXIT_NOT_EXECUTED);
}

bool start_supervisor(struct machine *machine)
{
    struct command command;
    int notify[2];
    machine->generation++;
    read_command(machine, &command);
    if (pipe2(notify, O_CLOEXEC | O_NONBLOCK) == -1)
        end_machine(machine, END_INIT_FAILED, "no pipe for the supervisor");
    machine->supervisor = fork();
    if (machine->supervisor == 0)
        become_supervisor(machine, &command, notify[1]);
    close(notify[1]);
    machine->notify = notify[0];
    machine->notice_length = 0;
    machine->refusal[0] = '\0';
    if (machine->supervisor != -1)
        return true;
    snprintf(machine->previous_exit, sizeof machine->previous_exit, "not forked: %s", errno_name(errno));
    machine->supervisor = 0;
    return false;
}

void describe_exit(int status, char *text, size_t size)
{
    if (WIFEXITED(status))
        snprintf(text, size, "exited(%d)", WEXITSTATUS(status));
    else
        snprintf(text, size, "killed(%s)", signal_name(WTERMSIG(status)));
}
