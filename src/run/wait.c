/*
 * poll(2) with a deadline; the contract is in wait.h.
 */
#include "run/wait.h"
#include "base/clock.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>

int wait_fd(int fd, bool writable, int64_t deadline_ns)
{
    for (;;) {
        struct pollfd p = { .fd = fd, .events = (short)(POLLIN | (writable ? POLLOUT : 0)) };
        int64_t left_ms = (deadline_ns - clock_mono_ns() + NS_PER_MS - 1) / NS_PER_MS;
        if (left_ms <= 0)
            return -ETIMEDOUT;
        int n = poll(&p, 1, left_ms > INT_MAX ? INT_MAX : (int)left_ms);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
    }
}
