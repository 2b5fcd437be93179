/*
 * Preloaded into a server: a message with CRASH-ME in it crashes whoever writes it to a Maildir.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

ssize_t write(int fd, const void *p, size_t n)
{
    static ssize_t (*real)(int fd, const void *p, size_t n);
    char name[64], path[4096];

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "write");
    if (memmem(p, n, "CRASH-ME", 8) != NULL) {
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        ssize_t len = readlink(name, path, sizeof path - 1);
        path[len < 0 ? 0 : len] = '\0';
        if (strstr(path, "/tmp/") != NULL)
            abort();
    }
    return real(fd, p, n);
}
