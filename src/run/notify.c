/*
 * The service manager; see notify.h. The socket is made anew for each word: they are few, and so no descriptor is kept from process to
 * process.
 */
#include "run/notify.h"
#include "base/clock.h"
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKETS_MAX 1024

/* "@x" is the abstract name x. */
static socklen_t address_of(const char *path, struct sockaddr_un *out)
{
    size_t n = strlen(path);

    *out = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if ((path[0] != '/' && path[0] != '@') || n >= sizeof out->sun_path)
        return 0;
    memcpy(out->sun_path, path, n);
    if (path[0] == '@')
        out->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}

static void tell(const char *words)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to;
    socklen_t n = path == NULL ? 0 : address_of(path, &to);

    if (n == 0)
        return;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, words, strlen(words), MSG_NOSIGNAL, (const struct sockaddr *)&to, n);   /* it does without, or its watchdog will tell */
    (void)close(fd);
}

void notify_ready(const char *status)
{
    char words[256];

    snprintf(words, sizeof words, "READY=1\nSTATUS=%s", status);
    tell(words);
}

void notify_reloading(void)
{
    char words[64];

    snprintf(words, sizeof words, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_mono_ns() / NS_PER_US);
    tell(words);
}

void notify_stopping(void) { tell("STOPPING=1"); }

void notify_alive(void)
{
    if (notify_watchdog_ns() > 0)
        tell("WATCHDOG=1");
}

/* A number of the environment, 0 if there is none. */
static int64_t number(const char *name)
{
    const char *text = getenv(name);
    char *end;

    if (text == NULL)
        return 0;
    errno = 0;
    int64_t n = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && n > 0 ? n : 0;
}

int64_t notify_watchdog_ns(void)
{
    int64_t us = number("WATCHDOG_USEC"), pid = number("WATCHDOG_PID");
    bool ours = pid == 0 || pid == getpid() || pid == getppid();

    return ours && us < INT64_MAX / NS_PER_US ? us * NS_PER_US : 0;
}

size_t notify_sockets(void)
{
    int64_t n = number("LISTEN_PID") == getpid() ? number("LISTEN_FDS") : 0;

    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
    return n > SOCKETS_MAX ? SOCKETS_MAX : (size_t)n;
}
