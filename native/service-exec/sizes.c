/* The kernel tells the program of each new size by SIGWINCH. */
#include "sizes.h"

#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "../common/descriptors.h"
#include "flow.h"

#define STANDARD_ROWS 24
#define STANDARD_COLUMNS 80

static bool set_size(int master, unsigned rows, unsigned columns)
{
    const struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    return ioctl(master, TIOCSWINSZ, &size) == 0;
}

/* Reads towards a whole record; false if there is nothing to read now or ever. */
static bool read_piece(struct sizes *sizes)
{
    ssize_t count = read(sizes->fd, sizes->record + sizes->length, SIZE_RECORD_BYTES - sizes->length);
    if (count > 0) {
        sizes->length += (size_t)count;
        return true;
    }
    if (count == 0 || !is_temporary(errno)) {
        close(sizes->fd);
        sizes->fd = -1;
    }
    return false;
}

void read_sizes(struct sizes *sizes, int master)
{
    const unsigned char *record = sizes->record;
    while (sizes->fd != -1 && read_piece(sizes)) {
        if (sizes->length < SIZE_RECORD_BYTES)
            continue;
        sizes->length = 0;
        if (master != -1)
            set_size(master, (unsigned)record[0] << 8 | record[1], (unsigned)record[2] << 8 | record[3]);
    }
}

bool start_sizes(struct sizes *sizes, int master, int wait_ms)
{
    struct pollfd first = {.fd = sizes->fd, .events = POLLIN};
    if (!set_size(master, STANDARD_ROWS, STANDARD_COLUMNS))
        return false;
    if (sizes->fd == -1)
        return true;
    if (!set_non_blocking(sizes->fd))
        return false;
    if (poll(&first, 1, wait_ms) > 0)
        read_sizes(sizes, master);
    return true;
}
