/*
 * run/sim_net: connections that work, and all the ways in which they do not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "run/net.h"
#include "run/sim.h"
#include "run/stream.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SOON task_deadline_in(NS_PER_S)

static const struct sim_options plain = { .seed = 5 };
static const struct sim_options rough = { .seed = 5, .latency_min_ns = NS_PER_MS, .latency_max_ns = 30 * NS_PER_MS, .split = true };

static struct net_addr addr(const char *text)
{
    struct net_addr a;
    assert_true(net_addr_parse(str_of(text), 25, &a));
    return a;
}

static void run(const struct sim_options *options, task_fn *fn)
{
    sim_begin(options);
    assert_int_equal(sim_run(fn, NULL), 0);
    sim_end();
}

static void listen_at(const char *where, struct net_listener **out)
{
    struct net_addr a = addr(where);
    assert_int_equal(net_listen(&a, false, out), 0);
}

/* Both ends of a connection, and the listener it came by. */
static void connected(struct net_listener **l, struct stream **client, struct stream **server)
{
    struct net_addr a = addr("192.0.2.1");
    listen_at("192.0.2.1", l);
    assert_int_equal(net_connect(&a, NULL, SOON, client), 0);
    assert_int_equal(net_accept(*l, SOON, server, NULL), 0);
}

static int say(struct stream *s, const char *text)
{
    int r = stream_put(s, str_of(text));
    return r < 0 ? r : stream_flush(s, SOON);
}

/* Reads until the end or an error, which it gives. */
static int hear(struct stream *s, struct buf *out)
{
    ssize_t r;
    while ((r = stream_fill(s, SOON)) > 0) {
        buf_put_str(out, stream_pending(s));
        stream_consume(s, stream_pending(s).n);
    }
    return (int)r;
}

static void assert_hears(struct stream *s, int end, const char *text)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_int_equal(hear(s, &b), end);
    assert_true(str_eq(buf_str(&b), str_of(text)));
    buf_free(&b);
}

/* ---- addresses ---- */

static void run_addresses(void *arg)
{
    struct net_listener *any, *one;
    struct stream *c, *s;
    struct net_addr peer, local, a = addr("192.0.2.1"), none = addr("192.0.2.1:26"), six = addr("[2001:db8::1]:25");
    struct net_addr loop = addr("127.0.0.1"), from = addr("203.0.113.9:0");
    (void)arg;
    assert_int_equal(net_connect(&a, NULL, SOON, &c), -ECONNREFUSED);
    listen_at("0.0.0.0", &any);
    assert_int_equal(net_listen(&a, false, &one), -EADDRINUSE);
    assert_int_equal(net_connect(&none, NULL, SOON, &c), -ECONNREFUSED);
    assert_int_equal(net_connect(&six, NULL, SOON, &c), -ECONNREFUSED);    /* 0.0.0.0 is not :: */

    assert_int_equal(net_connect(&a, &from, SOON, &c), 0);
    assert_int_equal(net_accept(any, SOON, &s, &peer), 0);
    char text[NET_ADDR_TEXT_MAX];
    assert_string_equal(net_addr_format_ip(&peer, text), "203.0.113.9");
    assert_int_not_equal(net_addr_port(&peer), 0);
    stream_local(s, &local);
    assert_true(net_addr_eq(&local, &a));
    stream_local(c, &local);
    assert_true(net_addr_eq(&local, &peer));
    stream_close(c);
    stream_close(s);

    assert_int_equal(net_connect(&loop, NULL, SOON, &c), 0);
    assert_int_equal(net_accept(any, SOON, &s, &peer), 0);
    assert_true(net_addr_is_loopback(&peer));
    unsigned uid;
    assert_int_equal(stream_peer_uid(s, &uid), -ENOTSOCK);
    stream_close(c);
    stream_close(s);
    net_listener_close(any);

    listen_at("127.0.0.1:0", &one);
    net_listener_addr(one, &local);
    assert_int_not_equal(net_addr_port(&local), 0);
    net_listener_close(one);
    assert_int_equal(net_connect(&local, NULL, SOON, &c), -ECONNREFUSED);
}

static void connections_find_their_listener(void **state)
{
    (void)state;
    run(&plain, run_addresses);
}

static void run_unix(void *arg)
{
    struct net_listener *l, *again;
    struct stream *c, *s;
    unsigned uid = 0;
    (void)arg;
    assert_int_equal(net_connect_unix("/run/x", SOON, &c), -ENOENT);
    assert_int_equal(net_listen_unix("/run/x", 0660, &l), 0);
    assert_int_equal(net_listen_unix("/run/x", 0660, &again), -EADDRINUSE);
    sim_net_uid(33);
    assert_int_equal(net_connect_unix("/run/x", SOON, &c), 0);
    assert_int_equal(net_accept(l, SOON, &s, NULL), 0);
    assert_int_equal(stream_peer_uid(s, &uid), 0);
    assert_int_equal(uid, 33);
    assert_int_equal(say(c, "hello"), 0);
    stream_close(c);
    assert_hears(s, 0, "hello");
    stream_close(s);
    net_listener_close(l);
    assert_int_equal(net_connect_unix("/run/x", SOON, &c), -ENOENT);
}

static void unix_sockets_go_by_path(void **state)
{
    (void)state;
    run(&plain, run_unix);
}

static bool refuse_odd(void *arg, const struct net_addr *from, const struct net_addr *to)
{
    unsigned *count = arg;
    (void)from;
    assert_int_equal(net_addr_port(to), 25);
    return (*count)++ % 2 == 0;
}

static void run_refused(void *arg)
{
    struct net_listener *l;
    struct stream *c;
    struct net_addr a = addr("192.0.2.1");
    unsigned count = 0;
    (void)arg;
    listen_at("192.0.2.1", &l);
    sim_net_refuse(refuse_odd, &count);
    assert_int_equal(net_connect(&a, NULL, SOON, &c), -ECONNREFUSED);
    assert_int_equal(net_connect(&a, NULL, SOON, &c), 0);
    sim_net_refuse(NULL, NULL);
    stream_close(c);
    net_listener_close(l);
}

static void connections_are_refused_to_order(void **state)
{
    (void)state;
    run(&plain, run_refused);
}

/* ---- bytes ---- */

static void run_half_close(void *arg)
{
    struct net_listener *l;
    struct stream *c, *s;
    (void)arg;
    connected(&l, &c, &s);
    assert_int_equal(say(s, "all I had to say"), 0);
    assert_int_equal(stream_shutdown(s, task_deadline_in(NS_PER_US)), -ETIMEDOUT);   /* our end is said; the peer's is still to come */
    assert_hears(c, 0, "all I had to say");
    assert_int_equal(say(c, "but I still"), 0);
    stream_close(c);
    stream_close(s);
    net_listener_close(l);
}

static void one_direction_may_end_before_the_other(void **state)
{
    (void)state;
    run(&rough, run_half_close);
}

#define MANY 300000

static void send_many(void *arg)
{
    struct stream *s = arg;
    char bytes[1000];
    for (unsigned i = 0; i < MANY / sizeof bytes; i++) {
        for (unsigned j = 0; j < sizeof bytes; j++)
            bytes[j] = (char)((i * sizeof bytes + j) % 251);
        assert_int_equal(stream_put(s, (struct str){ bytes, sizeof bytes }), 0);
    }
    assert_int_equal(stream_flush(s, TASK_FOREVER), 0);
    stream_close(s);
}

static void run_order(void *arg)
{
    struct net_listener *l;
    struct stream *c, *s;
    size_t n = 0;
    unsigned small = 0;
    (void)arg;
    connected(&l, &c, &s);
    assert_int_equal(task_start("sender", send_many, c), 0);
    assert_int_equal(task_sleep(NS_PER_S), 0);
    assert_true(sim_net_bytes() <= 64 * 1024);                             /* the sender waits for the reader */
    for (ssize_t r; (r = stream_fill(s, TASK_FOREVER)) > 0;) {
        struct str got = stream_pending(s);
        small += r < 100;
        for (size_t i = 0; i < got.n; i++)
            assert_int_equal((unsigned char)got.p[i], (n + i) % 251);
        n += got.n;
        stream_consume(s, got.n);
    }
    assert_int_equal(n, MANY);
    assert_true(small > 0);
    stream_close(s);
    net_listener_close(l);
}

static void bytes_keep_their_order_and_wait_for_the_reader(void **state)
{
    (void)state;
    run(&rough, run_order);
}

static void connect_one(void *arg)
{
    struct net_addr a = addr("192.0.2.1");
    struct stream *s;
    char text[16];
    assert_int_equal(net_connect(&a, NULL, TASK_FOREVER, &s), 0);
    (void)snprintf(text, sizeof text, "%u", *(unsigned *)arg);
    assert_int_equal(say(s, text), 0);
    stream_close(s);
}

static void run_overtaking(void *arg)
{
    static unsigned numbers[20];
    struct net_listener *l;
    struct stream *s;
    unsigned overtaken = 0, last = 0;
    (void)arg;
    listen_at("192.0.2.1", &l);
    for (unsigned i = 0; i < 20; i++) {
        numbers[i] = i;
        assert_int_equal(task_start("client", connect_one, &numbers[i]), 0);
    }
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(net_accept(l, SOON, &s, NULL), 0);
        struct buf b;
        uint64_t number;
        buf_init(&b, 100);
        assert_int_equal(hear(s, &b), 0);
        assert_true(str_to_u64(buf_str(&b), 19, &number));
        overtaken += number < last;
        last = (unsigned)number;
        buf_free(&b);
        stream_close(s);
    }
    assert_true(overtaken > 0);
    net_listener_close(l);
}

static void connections_overtake_each_other(void **state)
{
    (void)state;
    run(&rough, run_overtaking);
}

/* ---- ends ---- */

static void run_deadlines(void *arg)
{
    struct net_listener *l;
    struct stream *c, *s;
    struct net_addr a = addr("192.0.2.1");
    (void)arg;
    int64_t before = clock_mono_ns();
    listen_at("192.0.2.1", &l);
    assert_int_equal(net_accept(l, task_deadline_in(7 * NS_PER_S), &s, NULL), -ETIMEDOUT);
    assert_int_equal(clock_mono_ns() - before, 7 * NS_PER_S);
    assert_int_equal(net_connect(&a, NULL, task_deadline_in(NS_PER_US), &c), -ETIMEDOUT);
    assert_int_equal(net_connect(&a, NULL, SOON, &c), 0);
    assert_int_equal(stream_fill(c, task_deadline_in(NS_PER_S)), -ETIMEDOUT);
    stream_close(c);
    while (net_accept(l, SOON, &s, NULL) == 0)                             /* the one given up may be there, too; it ends at once */
        stream_close(s);
    net_listener_close(l);
}

static void deadlines_pass_in_virtual_time(void **state)
{
    (void)state;
    run(&rough, run_deadlines);
}

static void run_reset(void *arg)
{
    struct net_listener *l;
    struct stream *c, *s;
    (void)arg;
    connected(&l, &c, &s);
    assert_int_equal(say(s, "unread"), 0);
    assert_int_equal(task_sleep(NS_PER_S), 0);
    stream_close(c);                                                       /* with bytes unread */
    assert_hears(s, -ECONNRESET, "");
    stream_close(s);
    net_listener_close(l);

    connected(&l, &c, &s);
    stream_close(c);
    assert_hears(s, 0, "");
    assert_int_equal(say(s, "to nobody"), 0);                              /* it cannot know yet */
    assert_int_equal(task_sleep(NS_PER_S), 0);
    assert_int_equal(say(s, "again"), -EPIPE);
    stream_close(s);
    net_listener_close(l);
}

static void closing_on_bytes_resets(void **state)
{
    (void)state;
    run(&rough, run_reset);
}

static void run_listener_closed(void *arg)
{
    struct net_listener *l;
    struct stream *c;
    struct net_addr a = addr("192.0.2.1");
    (void)arg;
    listen_at("192.0.2.1", &l);
    assert_int_equal(net_connect(&a, NULL, SOON, &c), 0);
    net_listener_close(l);                                                 /* nobody ever took it */
    assert_hears(c, -ECONNRESET, "");
    stream_close(c);
}

static void a_connection_nobody_took_is_reset(void **state)
{
    (void)state;
    run(&plain, run_listener_closed);
}

/* A dialogue that is cut after each of its bytes: both sides get what was carried before, in order, and then know of the cut. */
#define QUESTION "0123456789"
#define ANSWER   "abcdefgh"

static uint64_t cut_at;

static void answer_one(void *arg)
{
    struct stream *s = arg;
    struct buf b;
    ssize_t r = 1;
    buf_init(&b, 100);
    while (b.n < strlen(QUESTION) && (r = stream_fill(s, SOON)) > 0) {
        buf_put_str(&b, stream_pending(s));
        stream_consume(s, stream_pending(s).n);
    }
    assert_memory_equal(b.p ? b.p : "", QUESTION, b.n);
    if (cut_at < strlen(QUESTION)) {
        assert_int_equal(b.n, cut_at);
        assert_int_equal(r, -ECONNRESET);
    } else {
        assert_int_equal(b.n, strlen(QUESTION));
        (void)say(s, ANSWER);
        r = stream_fill(s, SOON);
        assert_true(r == -ECONNRESET || r == -EPIPE);                      /* when we read, or already when we wrote */
    }
    buf_free(&b);
    stream_close(s);
}

static void run_cuts(void *arg)
{
    struct net_listener *l;
    struct net_addr a = addr("192.0.2.1");
    struct stream *c, *s;
    (void)arg;
    listen_at("192.0.2.1", &l);
    for (cut_at = 0; cut_at <= strlen(QUESTION ANSWER); cut_at++) {
        struct buf b;
        buf_init(&b, 100);
        assert_int_equal(net_connect(&a, NULL, SOON, &c), 0);
        assert_int_equal(net_accept(l, SOON, &s, NULL), 0);
        sim_net_cut_after(cut_at);
        uint64_t before = sim_net_bytes();
        assert_int_equal(task_start("server", answer_one, s), 0);
        (void)say(c, QUESTION);
        assert_int_equal(hear(c, &b), -ECONNRESET);
        assert_int_equal(sim_net_bytes() - before, cut_at);
        assert_int_equal(b.n, cut_at < strlen(QUESTION) ? 0 : cut_at - strlen(QUESTION));
        assert_memory_equal(b.p ? b.p : "", ANSWER, b.n);
        buf_free(&b);
        stream_close(c);
    }
    net_listener_close(l);
}

static void a_dialogue_is_cut_at_every_byte(void **state)
{
    (void)state;
    run(&plain, run_cuts);
    run(&rough, run_cuts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_find_their_listener),
        cmocka_unit_test(unix_sockets_go_by_path),
        cmocka_unit_test(connections_are_refused_to_order),
        cmocka_unit_test(one_direction_may_end_before_the_other),
        cmocka_unit_test(bytes_keep_their_order_and_wait_for_the_reader),
        cmocka_unit_test(connections_overtake_each_other),
        cmocka_unit_test(deadlines_pass_in_virtual_time),
        cmocka_unit_test(closing_on_bytes_resets),
        cmocka_unit_test(a_connection_nobody_took_is_reset),
        cmocka_unit_test(a_dialogue_is_cut_at_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
