/*
 * The supervisor's and the worker's words; see link.h. A message is shorter than a pipe's atomic write, so none comes in parts.
 */
#include "run/link.h"
#include "base/clock.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define FDS_MAX 8

int link_new(int out[2])
{
    return pipe2(out, O_CLOEXEC | O_NONBLOCK) < 0 ? -errno : 0;
}

void link_say(int fd, enum link_word word, uint64_t about)
{
    const struct link_message m = { .word = word, .about = about };

    if (fd >= 0 && write(fd, &m, sizeof m) < 0)
        return;                                  /* the supervisor is gone, and so shall we be; or it has not listened for hours */
}

bool link_hear(int fd, struct link_message *out)
{
    return fd >= 0 && read(fd, out, sizeof *out) == (ssize_t)sizeof *out;
}

bool link_is_over(int fd)
{
    struct pollfd polled = { .fd = fd, .events = POLLIN };
    return fd >= 0 && poll(&polled, 1, 0) == 1 && (polled.revents & POLLIN) == 0;
}

int link_signals(const sigset_t *set)
{
    int fd = signalfd(-1, set, SFD_NONBLOCK | SFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int link_signal(int fd)
{
    struct signalfd_siginfo info;
    return read(fd, &info, sizeof info) == (ssize_t)sizeof info ? (int)info.ssi_signo : 0;
}

void link_wait(const int *fds, unsigned count, int64_t deadline_ns)
{
    struct pollfd polled[FDS_MAX];
    int64_t left = deadline_ns == INT64_MAX ? -1 : deadline_ns - clock_mono_ns();
    struct timespec at_most = { .tv_sec = left / NS_PER_S, .tv_nsec = left % NS_PER_S };

    assert(count <= FDS_MAX);
    if (deadline_ns != INT64_MAX && left <= 0)
        return;
    for (unsigned i = 0; i < count; i++)
        polled[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
    (void)ppoll(polled, count, left < 0 ? NULL : &at_most, NULL);
}

void link_close(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}
