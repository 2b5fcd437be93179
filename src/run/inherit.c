/*
 * Descriptors across execve; see inherit.h. Runs in the supervisor, and in a worker before its loops.
 */
#include "run/inherit.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

const char *inherit_program(char *out, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", out, size - 1);

    if (n < 0 || (size_t)n >= size - 1)
        return NULL;
    out[n] = '\0';
    return out;
}

static void keep_open(const int *fds, size_t n, int flags)
{
    for (size_t i = 0; i < n; i++)
        if (fds[i] >= 0)
            (void)fcntl(fds[i], F_SETFD, flags);
}

int inherit_exec(const char *program, char *const argv[], const char *name, const char *value, const int *fds, size_t n)
{
    if (setenv(name, value, 1) < 0)
        return -errno;
    keep_open(fds, n, 0);
    (void)execv(program, argv);
    int r = -errno;
    keep_open(fds, n, FD_CLOEXEC);
    (void)unsetenv(name);
    return r;
}

bool inherit_take(int fd)
{
    return fd >= 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}
