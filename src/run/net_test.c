/*
 * run/net: addresses and ranges as tables; listening, accepting and connecting with the kernel's sockets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "run/loop.h"
#include "run/net.h"
#include "run/net_internal.h"
#include "run/stream.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CHECK(condition)                                                                        \
    do {                                                                                        \
        if (!(condition)) {                                                                     \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);           \
            abort();                                                                            \
        }                                                                                       \
    } while (0)
#define CHECK_IS(a, b)                                                                          \
    do {                                                                                        \
        long long a_ = (long long)(a), b_ = (long long)(b);                                     \
        if (a_ != b_) {                                                                         \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #a, a_, b_);   \
            abort();                                                                            \
        }                                                                                       \
    } while (0)

static int64_t soon(void)
{
    return task_deadline_in(10 * NS_PER_S);
}

/* Addresses. */

static void test_addresses(void **state)
{
    static const struct {
        const char *text, *formatted;   /* with 25 as the default port; NULL: not an address */
    } cases[] = {
        { "",                         NULL                    },
        { ":",                        NULL                    },
        { ":25",                      NULL                    },
        { "[]",                       NULL                    },
        { "[",                        NULL                    },
        { "[192.0.2.1]:25",           NULL                    },
        { "[2001:db8::1",             NULL                    },
        { "[2001:db8::1]25",          NULL                    },
        { "[2001:db8::1]:",           NULL                    },
        { "192.0.2.1:",               NULL                    },
        { "192.0.2.1:65536",          NULL                    },
        { "192.0.2.1:-1",             NULL                    },
        { "192.0.2.1:2 5",            NULL                    },
        { "192.0.2",                  NULL                    },
        { "192.0.2.256",              NULL                    },
        { "192.0.2.1 ",               NULL                    },
        { "mx.example",               NULL                    },
        { "2001:db8:::1",             NULL                    },
        { "1:2:3:4:5:6:7:8:9",        NULL                    },
        { "192.0.2.1",                "192.0.2.1:25"          },
        { "192.0.2.1:2525",           "192.0.2.1:2525"        },
        { "0.0.0.0:0",                "0.0.0.0:0"             },
        { "2001:DB8::1",              "[2001:db8::1]:25"      },
        { "[2001:db8::1]",            "[2001:db8::1]:25"      },
        { "[::]:587",                 "[::]:587"              },
        { "::ffff:192.0.2.1",         "192.0.2.1:25"          },
        { "[::ffff:192.0.2.1]:26",    "192.0.2.1:26"          },
        { "[fe80:1111:2222:3333:4444:5555:6666:7777]:65535", "[fe80:1111:2222:3333:4444:5555:6666:7777]:65535" },
    };
    char text[NET_ADDR_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct net_addr a, untouched;

        memset(&a, 0x5a, sizeof a);
        untouched = a;
        bool ok = net_addr_parse(str_of(cases[i].text), 25, &a);
        if (ok != (cases[i].formatted != NULL))
            fail_msg("\"%s\": %d", cases[i].text, ok);
        if (ok)
            assert_string_equal(net_addr_format(&a, text), cases[i].formatted);
        else
            assert_memory_equal(&a, &untouched, sizeof a);
    }
    assert_false(net_addr_parse((struct str){ "1.2.3.4\0x", 9 }, 25, &(struct net_addr){ 0 }));
}

static void test_address_facts(void **state)
{
    struct net_addr a, b;
    uint8_t         ip[16];
    char            text[NET_ADDR_TEXT_MAX];

    (void)state;
    assert_true(net_addr_parse(STR("192.0.2.1:25"), 0, &a));
    assert_true(net_addr_parse(STR("[::ffff:192.0.2.1]:25"), 0, &b));
    assert_true(net_addr_eq(&a, &b));
    assert_int_equal(net_addr_ip(&b, ip), 4);
    net_addr_set_port(&b, 26);
    assert_int_equal(net_addr_port(&b), 26);
    assert_false(net_addr_eq(&a, &b));
    assert_string_equal(net_addr_format_ip(&b, text), "192.0.2.1");

    assert_true(net_addr_parse(STR("127.8.8.8"), 0, &a) && net_addr_is_loopback(&a));
    assert_true(net_addr_parse(STR("::1"), 0, &a) && net_addr_is_loopback(&a));
    assert_true(net_addr_parse(STR("::ffff:127.0.0.1"), 0, &a) && net_addr_is_loopback(&a));
    assert_true(net_addr_parse(STR("128.0.0.1"), 0, &a) && !net_addr_is_loopback(&a));
    assert_true(net_addr_parse(STR("::2"), 0, &a) && !net_addr_is_loopback(&a));

    a = (struct net_addr){ .any.sa_family = AF_UNIX };
    assert_int_equal(net_addr_ip(&a, ip), 0);
    assert_string_equal(net_addr_format(&a, text), "unix");
    assert_false(net_addr_is_loopback(&a));
}

/* Sockets. */

static char top[64];

static const char *in_top(const char *name)
{
    static char path[128];

    (void)snprintf(path, sizeof path, "%s/%s", top, name);
    return path;
}

static void exchange(struct stream *a, struct stream *b)
{
    CHECK_IS(stream_put(a, STR("hello")), 0);
    CHECK_IS(stream_flush(a, soon()), 0);
    CHECK_IS(stream_fill(b, soon()), 5);
    CHECK(str_eq(stream_pending(b), STR("hello")));
    stream_consume(b, 5);
}

static void tcp_on(const char *text)
{
    struct net_listener *l;
    struct net_addr      at, peer, from;
    struct stream       *a, *b;
    unsigned             uid;

    CHECK(net_addr_parse(str_of(text), 0, &at));
    int r = net_listen(&at, true, &l);
    if (r == -EADDRNOTAVAIL || r == -EAFNOSUPPORT)
        return;                      /* a machine without IPv6 */
    CHECK_IS(r, 0);
    from = at;
    net_listener_addr(l, &at);
    CHECK(net_addr_port(&at) != 0);
    CHECK_IS(net_accept(l, task_deadline_in(NS_PER_MS), &b, NULL), -ETIMEDOUT);
    CHECK_IS(net_connect(&at, &from, soon(), &a), 0);
    CHECK_IS(net_accept(l, soon(), &b, &peer), 0);
    CHECK(net_addr_is_loopback(&peer));
    exchange(a, b);
    exchange(b, a);
    CHECK_IS(stream_peer_uid(b, &uid), -ENOTSOCK);

    struct net_listener *second;
    CHECK_IS(net_listen(&at, true, &second), 0);   /* shared */
    net_listener_close(second);
    CHECK_IS(net_listen(&at, false, &second), -EADDRINUSE);
    net_listener_close(l);
    stream_close(a);
    stream_close(b);
    CHECK_IS(net_connect(&at, NULL, soon(), &a), -ECONNREFUSED);
}

static void tcp_task(void *arg)
{
    (void)arg;
    tcp_on("127.0.0.1:0");
    tcp_on("[::1]:0");
    net_listener_close(NULL);

    struct stream  *s;
    struct net_addr a = { .any.sa_family = AF_UNIX };
    CHECK_IS(net_connect(&a, NULL, soon(), &s), -EAFNOSUPPORT);
}

static void test_tcp(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, tcp_task, NULL), 0);
}

/* A listener whose backlog is full lets connections hang: the kernel drops the SYN. */
static void connect_deadline_task(void *arg)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t          n = sizeof at;
    struct stream     *streams[8];
    unsigned           count = 0;
    struct net_addr    to;
    int                r = 0;

    (void)arg;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 0) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&at, &n) == 0);
    net_addr_from_ip(&at.sin_addr, 4, ntohs(at.sin_port), &to);
    while (count < 8 && (r = net_connect(&to, NULL, task_deadline_in(50 * NS_PER_MS), &streams[count])) == 0)
        count++;
    CHECK_IS(r, -ETIMEDOUT);
    while (count > 0)
        stream_close(streams[--count]);
    (void)close(fd);
}

static void test_connect_deadline(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, connect_deadline_task, NULL), 0);
}

static void accept_task(void *arg)
{
    struct stream *s;

    CHECK_IS(net_accept(arg, TASK_FOREVER, &s, NULL), -ECANCELED);
    CHECK_IS(net_accept(arg, TASK_FOREVER, &s, NULL), -ECANCELED);
}

static void cancel_accept_task(void *arg)
{
    struct net_listener *l;
    struct net_addr      at;
    struct task_group    group;

    (void)arg;
    CHECK(net_addr_parse(STR("127.0.0.1:0"), 0, &at));
    CHECK_IS(net_listen(&at, false, &l), 0);
    task_group_init(&group);
    CHECK_IS(task_group_start(&group, "accepts", accept_task, l), 0);
    CHECK_IS(task_sleep(NS_PER_MS), 0);
    task_group_cancel(&group);
    CHECK_IS(task_group_wait(&group, soon()), 0);
    net_listener_close(l);
}

static void test_cancel_accept(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, cancel_accept_task, NULL), 0);
}

/* No descriptor left: accept says so at once, and the connection is still there when one is free again. */
static void no_descriptors_task(void *arg)
{
    struct net_listener *l;
    struct net_addr      at;
    struct stream       *a, *b;
    struct rlimit        before, now;

    (void)arg;
    CHECK(net_addr_parse(STR("127.0.0.1:0"), 0, &at));
    CHECK_IS(net_listen(&at, false, &l), 0);
    net_listener_addr(l, &at);
    CHECK_IS(net_accept(l, clock_mono_ns(), &b, NULL), -ETIMEDOUT);
    CHECK_IS(net_connect(&at, NULL, soon(), &a), 0);
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    now = before;
    now.rlim_cur = 3;
    CHECK(setrlimit(RLIMIT_NOFILE, &now) == 0);
    CHECK_IS(net_accept(l, soon(), &b, NULL), -EMFILE);
    CHECK_IS(net_accept(l, soon(), &b, NULL), -EMFILE);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK_IS(net_accept(l, soon(), &b, NULL), 0);
    exchange(a, b);
    stream_close(a);
    stream_close(b);
    net_listener_close(l);
}

static void test_no_descriptors(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, no_descriptors_task, NULL), 0);
}

/* A socket file nobody listens at any more, as a crash leaves it. */
static void leave_stale(const char *path)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    int                fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy(at.sun_path, path);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0);
    CHECK(listen(fd, 1) == 0);
    (void)close(fd);
}

static void unix_task(void *arg)
{
    struct net_listener *l, *second;
    struct stream       *a, *b;
    struct net_addr      peer, addr;
    char                 text[NET_ADDR_TEXT_MAX], path[200];
    unsigned             uid = 99;
    struct stat          st;

    (void)arg;
    strcpy(path, in_top("socket"));
    CHECK_IS(net_connect_unix(path, soon(), &a), -ENOENT);
    leave_stale(path);
    CHECK_IS(net_connect_unix(path, soon(), &a), -ECONNREFUSED);
    CHECK_IS(net_listen_unix(path, 0666, &l), 0);
    CHECK(stat(path, &st) == 0);
    CHECK_IS(st.st_mode & 07777, 0666);
    CHECK_IS(net_listen_unix(path, 0600, &second), -EADDRINUSE);

    CHECK_IS(net_connect_unix(path, soon(), &a), 0);
    CHECK_IS(net_accept(l, soon(), &b, &peer), 0);
    CHECK(strcmp(net_addr_format(&peer, text), "unix") == 0);
    stream_local(b, &addr);
    CHECK_IS(addr.any.sa_family, AF_UNIX);
    exchange(a, b);
    exchange(b, a);
    CHECK_IS(stream_peer_uid(b, &uid), 0);
    CHECK_IS(uid, getuid());
    CHECK_IS(stream_peer_uid(a, &uid), 0);
    stream_close(a);
    stream_close(b);
    net_listener_close(l);
    CHECK(stat(path, &st) < 0);      /* taken away */

    /* A successor's socket is left alone. */
    CHECK_IS(net_listen_unix(path, 0600, &l), 0);
    CHECK(unlink(path) == 0);
    CHECK_IS(net_listen_unix(path, 0600, &second), 0);
    net_listener_close(l);
    CHECK_IS(net_connect_unix(path, soon(), &a), 0);
    stream_close(a);
    net_listener_close(second);

    /* So is a file that is no socket. */
    strcpy(path, in_top("file"));
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && close(fd) == 0);
    CHECK_IS(net_listen_unix(path, 0600, &l), -EADDRINUSE);
    CHECK(stat(path, &st) == 0);

    memset(path, 'x', 150);
    path[150] = '\0';
    CHECK_IS(net_listen_unix(path, 0600, &l), -ENAMETOOLONG);
    CHECK_IS(net_connect_unix(path, soon(), &a), -ENAMETOOLONG);
    CHECK_IS(net_connect_unix("", soon(), &a), -ENOENT);
    CHECK_IS(net_listen_unix("/none/such/socket", 0600, &l), -ENOENT);
}

static void test_unix(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, unix_task, NULL), 0);
}

/* A Unix socket whose backlog is full: tried again until the deadline. */
static void unix_full_task(void *arg)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    struct stream     *streams[8];
    unsigned           count = 0;
    int                r = 0;

    (void)arg;
    strcpy(at.sun_path, in_top("full"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 0) == 0);
    while (count < 8 && (r = net_connect_unix(at.sun_path, task_deadline_in(30 * NS_PER_MS), &streams[count])) == 0)
        count++;
    CHECK_IS(r, -ETIMEDOUT);

    struct net_listener *l;
    CHECK_IS(net_listen_unix(at.sun_path, 0600, &l), -EADDRINUSE);   /* busy is not dead */
    while (count > 0)
        stream_close(streams[--count]);
    (void)close(fd);
}

static void test_unix_full(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, unix_full_task, NULL), 0);
}

static int refuse_all(const struct net_addr *to, const struct net_addr *from, int64_t deadline_ns, struct stream **out)
{
    (void)to;
    (void)from;
    (void)deadline_ns;
    (void)out;
    return -ENETDOWN;
}

static void test_another_network(void **state)
{
    static const struct net_ops other = { .connect = refuse_all };
    struct net_addr             to = { 0 };
    struct stream              *s;

    (void)state;
    net_replace(&other);
    assert_int_equal(net_connect(&to, NULL, 0, &s), -ENETDOWN);
    net_replace(NULL);
}

static int make_dir(void **state)
{
    (void)state;
    strcpy(top, "/tmp/net_test.XXXXXX");
    return mkdtemp(top) == NULL ? -1 : 0;
}

static int remove_dir(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", top);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_address_facts),
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_connect_deadline),
        cmocka_unit_test(test_cancel_accept),
        cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_unix),
        cmocka_unit_test(test_unix_full),
        cmocka_unit_test(test_another_network),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
