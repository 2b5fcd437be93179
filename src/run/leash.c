/*
 * Leashes; the contract is in leash.h. Runs in the supervisor, and in the keeper and lookup.
 */
#include "run/leash.h"
#include "run/loop.h"
#include "run/wait.h"
#include <errno.h>
#include <limits.h>
#include <sys/socket.h>
#include <unistd.h>

int leash_new(int *out_ours, int *out_childs)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    *out_ours = pair[0];
    *out_childs = pair[1];
    return 0;
}

void leash_close(int *end)
{
    if (*end >= 0)
        (void)close(*end);
    *end = -1;
}

int leash_wait_ready(int ours)
{
    char word;
    ssize_t n;

    while ((n = recv(ours, &word, 1, 0)) < 0 && errno == EINTR)
        continue;
    return n == 1 ? 0 : -EPIPE;
}

void leash_say_ready(int childs) { (void)send(childs, "r", 1, MSG_NOSIGNAL); }

int leash_sleep(int childs, int64_t ns)
{
    return wait_fd(childs, false, task_deadline_in(ns)) == -ETIMEDOUT ? 0 : -EPIPE;
}

int leash_await(int childs, int64_t deadline_ns)
{
    struct loop_fd fd;
    char word;
    int r = 0;

    loop_fd_init(&fd, childs);
    while (r == 0 && recv(childs, &word, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN)
        r = loop_fd_wait_readable(&fd, deadline_ns);
    loop_fd_forget(&fd);
    return r;
}

/* A lower one than the rest first: close_range closes what stands between two. */
void leash_keep_only(const int *fds, size_t n)
{
    unsigned from = STDERR_FILENO + 1;

    for (;;) {
        unsigned next = UINT_MAX;
        for (size_t i = 0; i < n; i++)
            if (fds[i] >= 0 && (unsigned)fds[i] >= from && (unsigned)fds[i] < next)
                next = (unsigned)fds[i];
        if (next == UINT_MAX)
            break;
        if (next > from)
            (void)close_range(from, next - 1, 0);
        from = next + 1;
    }
    (void)close_range(from, UINT_MAX, 0);
}
