/*
 * Words to a service manager, as it hears them.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "run/notify.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int manager;

static void listen_at(const char *path)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    size_t n = strlen(path);

    memcpy(at.sun_path, path, n);
    if (path[0] == '@')
        at.sun_path[0] = '\0';
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_return_code(bind(manager, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)), 0);
    setenv("NOTIFY_SOCKET", path, 1);
}

static const char *heard(void)
{
    static char words[512];
    ssize_t n = recv(manager, words, sizeof words - 1, 0);
    words[n < 0 ? 0 : n] = '\0';
    return words;
}

static void set_watchdog(const char *us, long pid)
{
    char text[32];
    snprintf(text, sizeof text, "%ld", pid);
    setenv("WATCHDOG_USEC", us, 1);
    setenv("WATCHDOG_PID", text, 1);
}

static void words(void **state)
{
    char path[64];
    int64_t us;

    (void)state;
    snprintf(path, sizeof path, "@nightmail-notify-test-%d", getpid());
    listen_at(path);
    notify_ready("all is well");
    assert_string_equal(heard(), "READY=1\nSTATUS=all is well");
    notify_stopping();
    assert_string_equal(heard(), "STOPPING=1");
    notify_reloading();
    assert_int_equal(sscanf(heard(), "RELOADING=1\nMONOTONIC_USEC=%ld", &us), 1);
    assert_true(us > 0 && us <= clock_mono_ns() / 1000);
    unsetenv("WATCHDOG_USEC");
    notify_alive();                                  /* nobody watches */
    assert_string_equal(heard(), "");
    set_watchdog("30000000", getpid());
    notify_alive();
    assert_string_equal(heard(), "WATCHDOG=1");
    close(manager);
    notify_ready("to nobody");                       /* the manager is gone: nothing happens */
    setenv("NOTIFY_SOCKET", "relative", 1);
    notify_ready("to nobody");
    unsetenv("NOTIFY_SOCKET");
    notify_ready("to nobody");
}

static void watchdog(void **state)
{
    (void)state;
    set_watchdog("30000000", getpid());
    assert_int_equal(notify_watchdog_ns(), 30 * NS_PER_S);
    set_watchdog("30000000", getppid());             /* of the supervisor, for its worker */
    assert_int_equal(notify_watchdog_ns(), 30 * NS_PER_S);
    set_watchdog("30000000", 1 + (getpid() > getppid() ? getpid() : getppid()));
    assert_int_equal(notify_watchdog_ns(), 0);
    const char *const none[] = { "", "x", "-1", "5s", "99999999999999999999999" };
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        set_watchdog(none[i], getpid());
        assert_int_equal(notify_watchdog_ns(), 0);
    }
}

static void sockets(void **state)
{
    char pid[32];

    (void)state;
    assert_int_equal(notify_sockets(), 0);
    setenv("LISTEN_FDS", "2", 1);
    setenv("LISTEN_PID", "1", 1);                    /* another process's */
    assert_int_equal(notify_sockets(), 0);
    assert_null(getenv("LISTEN_FDS"));
    snprintf(pid, sizeof pid, "%d", getpid());
    setenv("LISTEN_FDS", "2", 1);
    setenv("LISTEN_PID", pid, 1);
    assert_int_equal(notify_sockets(), 2);
    assert_int_equal(notify_sockets(), 0);           /* once */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        cmocka_unit_test(watchdog),
        cmocka_unit_test(sockets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
