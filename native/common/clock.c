/* Deadlines are points in time, so that waiting in pieces does not lengthen them. */
#include "clock.h"

#include <limits.h>
#include <time.h>

int64_t now_ms(void)
{
    struct timespec now = {0, 0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int ms_until(int64_t deadline_ms)
{
    int64_t left = deadline_ms - now_ms();
    if (left < 0)
        return 0;
    return left > INT_MAX ? INT_MAX : (int)left;
}
