/* A bounded buffer between two descriptors that may both be slow. */
#include "flow.h"

#include <errno.h>
#include <unistd.h>

bool is_drained(const struct flow *flow)
{
    return flow->start == flow->end;
}

bool is_temporary(int number)
{
    return number == EAGAIN || number == EINTR;
}

ssize_t fill_flow(struct flow *flow, int fd)
{
    ssize_t count = read(fd, flow->bytes, sizeof flow->bytes);
    flow->start = 0;
    flow->end = count > 0 ? (size_t)count : 0;
    return count;
}

bool pour_flow(struct flow *flow, int fd)
{
    while (!is_drained(flow)) {
        ssize_t count = write(fd, flow->bytes + flow->start, flow->end - flow->start);
        if (count == -1)
            return is_temporary(errno);
        flow->start += (size_t)count;
    }
    return true;
}

void empty_flow(struct flow *flow)
{
    flow->start = 0;
    flow->end = 0;
}
