/*
 * Listeners and sessions whole, in the simulated world: limits, a disk in trouble, connections that break at every byte, stop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/metrics.h"
#include "run/loop.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERVER "192.0.2.1:25"
#define SOON   task_deadline_in(60 * NS_PER_S)
#include "inbound/test_scene.h"
#include "policy/limit.h"

#define CONF "listen a { address = \"" SERVER "\" }\ntrusted_networks = {10.0.0.0/8}\ncommand_timeout = 20s\n"

static void start(void)
{
    char error[256];

    if (scene_start(error) < 0)
        fail_msg("%s", error);
}

static void stop(void) { scene_stop(); }

static void run(const char *conf, task_fn *fn)
{
    scene_conf(CONF, conf);
    sim_begin(&(struct sim_options){ .seed = 3, .latency_max_ns = NS_PER_MS, .split = true, .sync_ns = NS_PER_MS });
    assert_int_equal(sim_run(fn, NULL), 0);
    sim_end();
    conf_set_current(NULL);
}

/* -- a client -------------------------------------------------------------------------------------------------------------- */

static struct stream *connect_from(const char *ip) { return scene_connect(SERVER, ip); }
static struct stream *greeted_from(const char *ip) { return scene_greeted(SERVER, ip); }

/* A whole message; the code after the final dot, or the first that is no welcome. */
static int send_message(struct stream *s)
{
    static const struct { const char *text; int code; } steps[] = {
        { "MAIL FROM:<a@tester.example>\r\n", 250 },
        { "RCPT TO:<postmaster>\r\n",         250 },
        { "DATA\r\n",                         354 },
    };

    for (size_t i = 0; i < 3; i++) {
        int code = say(s, steps[i].text);
        if (code != steps[i].code)
            return code;
    }
    return say(s, "Subject: x\r\n\r\ntext\r\n.\r\n");
}

/* -- tests ------------------------------------------------------------------------------------------------------------------- */

static void with_a_disk_in_trouble(void *arg)
{
    (void)arg;
    start();
    struct stream *s = greeted_from("198.51.100.1");
    assert_int_equal(send_message(s), 250);
    sim_disk_fail(sim_disk_ops(), ENOSPC, true);
    assert_int_equal(send_message(s), 452);
    sim_disk_heal();
    assert_int_equal(send_message(s), 250);
    sim_disk_fail(sim_disk_ops(), EIO, true);
    assert_int_equal(send_message(s), 451);
    sim_disk_heal();
    assert_int_equal(send_message(s), 250);
    assert_int_equal(queue_count(queue), 3);
    stream_close(s);
    stop();
}

static void a_disk_in_trouble_is_4xx(void **state)
{
    (void)state;
    run("", with_a_disk_in_trouble);
}

/* Whoever asks and asks and never listens is waited for once, not once for each reply. */
static void with_a_deaf_client(void *arg)
{
    (void)arg;
    start();
    int64_t open = metric_get(METRIC_sessions_open);
    struct stream *s = greeted_from("198.51.100.1");
    for (int i = 0; i < 10000; i++)
        assert_int_equal(stream_put(s, STR("HELP\r\n")), 0);
    stream_write_deadline(s, SOON);
    (void)stream_flush(s, task_deadline_in(NS_PER_S));
    assert_int_equal(metric_get(METRIC_sessions_open), open + 1);
    assert_int_equal(task_sleep(30 * NS_PER_S), 0);
    assert_int_equal(metric_get(METRIC_sessions_open), open);
    stream_close(s);
    stop();
}

static void a_deaf_client_is_left(void **state)
{
    (void)state;
    run("", with_a_deaf_client);
}

/* BODY=8BITMIME says what may come. A text without such bytes may go to a server that takes only 7 bits, and must not bounce there. */
static void with_seven_and_eight_bits(void *arg)
{
    static const struct { const char *text; bool eight; } cases[] = { { "plain\r\n.\r\n", false }, { "gr\xc3\xbc\xc3\x9f" "e\r\n.\r\n", true } };

    (void)arg;
    start();
    struct stream *s = greeted_from("198.51.100.1");
    for (size_t i = 0; i < 2; i++) {
        struct claim *c;
        assert_int_equal(say(s, "MAIL FROM:<a@tester.example> BODY=8BITMIME\r\n"), 250);
        assert_int_equal(say(s, "RCPT TO:<postmaster>\r\n"), 250);
        assert_int_equal(say(s, "DATA\r\n"), 354);
        assert_int_equal(say(s, cases[i].text), 250);
        assert_int_equal(queue_claim(queue, SOON, &c), 0);
        assert_int_equal(c->env.body_8bit, cases[i].eight);
        assert_int_equal(queue_settle(c, &(struct outcome){ .state = RCPT_DELIVERED }, 1, 0), 0);
    }
    stream_close(s);
    stop();
}

static void eight_bits_are_what_is_there(void **state)
{
    (void)state;
    run("", with_seven_and_eight_bits);
}

/* Text that comes `bytes` at a time, every `pause_s`, behind a burst, with the default data_timeout of three minutes. */
static const struct pace {
    const char *conf;
    unsigned    burst, bytes, pause_s;
    int         code;            /* after ten minutes of that, and the final dot */
    int64_t     least_s, most_s; /* when it is said, from the beginning */
} paces[] = {
    { "",                  0,      1,      1,   421, 179, 182 },
    { "",                  0,      1,      170, 421, 179, 182 }, /* each byte within data_timeout */
    { "",                  0,      250,    1,   421, 179, 182 },
    { "",                  0,      260,    1,   250, 600, 602 },
    { "",                  0,      46080,  170, 250, 600, 700 }, /* pauses are no harm by themselves */
    { "",                  500000, 1,      1,   421, 180, 365 }, /* what was fast once does not buy slowness for ever */
    { "data_rate_min = 0", 0,      1,      170, 250, 600, 700 },
    { "data_rate_min = 1", 0,      1,      2,   421, 179, 182 },
    { "data_timeout = 30s\ndata_rate_min = 1KiB", 0, 1, 1, 421, 29, 32 },
    { "data_timeout = 1d\ndata_rate_min = 1MiB", 0, 1, 1, 250, 600, 602 },
};

static void with_a_slow_client(void *arg)
{
    const struct pace *p = arg;
    static char text[500000];

    memset(text, 'x', sizeof text);
    for (size_t i = 62; i + 1 < sizeof text; i += 64)
        memcpy(text + i, "\r\n", 2);
    start();
    struct stream *s = greeted_from("198.51.100.1");
    assert_int_equal(say(s, "MAIL FROM:<a@tester.example>\r\n"), 250);
    assert_int_equal(say(s, "RCPT TO:<postmaster>\r\n"), 250);
    assert_int_equal(say(s, "DATA\r\n"), 354);
    int64_t began = clock_mono_ns();
    assert_int_equal(stream_put(s, (struct str){ text, p->burst }), 0);
    size_t at = 0;
    while (clock_mono_ns() - began < 600 * NS_PER_S) {
        struct str piece = { text + at, p->bytes };
        at = (at + p->bytes) % 64;       /* from any place, the lines are the same */
        if (stream_put(s, piece) < 0 || stream_flush(s, SOON) < 0 || stream_fill(s, task_deadline_in((int64_t)p->pause_s * NS_PER_S)) >= 0)
            break;
    }
    int code = stream_pending(s).n > 0 ? hear(s) : say(s, "\r\n.\r\n");
    int64_t took_s = (clock_mono_ns() - began) / NS_PER_S;
    if (code != p->code || took_s < p->least_s || took_s > p->most_s)
        fail_msg("row %zu: %d after %d s", p - paces, code, (int)took_s);
    stream_close(s);
    stop();
}

static void text_must_come_fast_enough(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof paces / sizeof paces[0]; i++) {
        scene_conf(CONF, paces[i].conf);
        sim_begin(&(struct sim_options){ .seed = i, .latency_max_ns = NS_PER_MS, .split = true, .sync_ns = NS_PER_MS });
        assert_int_equal(sim_run(with_a_slow_client, (void *)(uintptr_t)&paces[i]), 0);
        sim_end();
        conf_set_current(NULL);
    }
}

static void with_a_trickle_of_commands(void *arg)
{
    int code = 250;

    (void)arg;
    start();
    struct stream *s = greeted_from("198.51.100.1");
    assert_int_equal(say(s, "MAIL FROM:<>\r\n"), 250);
    int64_t began = clock_mono_ns();
    while (code == 250 && clock_mono_ns() < began + 100 * 3600 * NS_PER_S) {
        assert_int_equal(task_sleep(15 * NS_PER_S), 0);
        code = say(s, "NOOP\r\n");
    }
    assert_int_equal(code, 421);
    assert_in_range(clock_mono_ns() - began, 3500 * NS_PER_S, 3700 * NS_PER_S);
    assert_int_equal(hear(s), 0);
    stream_close(s);
    stop();
}

/* As much as data_rate_min asks for, and no end: that is slower than a transaction may be. */
static void with_a_trickle_of_text(void *arg)
{
    int code = 0;

    (void)arg;
    start();
    struct stream *s = greeted_from("198.51.100.1");
    assert_int_equal(say(s, "MAIL FROM:<>\r\n"), 250);
    assert_int_equal(say(s, "RCPT TO:<postmaster>\r\n"), 250);
    assert_int_equal(say(s, "DATA\r\n"), 354);
    int64_t began = clock_mono_ns();
    while (code == 0 && clock_mono_ns() < began + 100 * 3600 * NS_PER_S) {
        (void)stream_put(s, STR("0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n"));
        (void)stream_flush(s, TASK_FOREVER);
        ssize_t n = stream_fill(s, task_deadline_in(NS_PER_S / 4));
        code = n == -ETIMEDOUT ? 0 : hear(s);
    }
    assert_int_equal(code, 421);
    assert_in_range(clock_mono_ns() - began, 3500 * NS_PER_S, 3700 * NS_PER_S);
    stream_close(s);
    stop();
}

static void a_transaction_has_an_end(void **state)
{
    (void)state;
    run("transaction_timeout = 1h", with_a_trickle_of_commands);
    run("transaction_timeout = 1h", with_a_trickle_of_text);
}

static void with_many_clients(void *arg)
{
    struct stream *s[8];

    (void)arg;
    start();
    s[0] = greeted_from("198.51.100.1");
    s[1] = greeted_from("198.51.100.1");
    s[2] = connect_from("198.51.100.1");
    assert_int_equal(hear(s[2]), 421);           /* the third of one client */
    assert_int_equal(hear(s[2]), 0);
    s[3] = greeted_from("198.51.100.2");         /* another is welcome */
    s[4] = greeted_from("10.0.0.1");             /* the trusted are free */
    s[5] = greeted_from("10.0.0.1");
    s[6] = greeted_from("10.0.0.1");
    s[7] = connect_from("10.0.0.1");
    assert_int_equal(hear(s[7]), 421);           /* the seventh in all */
    assert_int_equal(say(s[0], "QUIT\r\n"), 221);
    stream_close(s[0]);
    s[0] = NULL;
    assert_int_equal(task_sleep(NS_PER_S), 0);
    struct stream *next = greeted_from("198.51.100.1");
    stream_close(next);
    for (int i = 0; i < 8; i++)
        stream_close(s[i]);
    stop();
}

static void sessions_are_limited(void **state)
{
    (void)state;
    run("sessions_max = 6\nsessions_per_client_max = 2", with_many_clients);
}

static void count_refusals(void *arg, enum log_level level, struct str line)
{
    unsigned *count = arg;

    (void)level;
    *count += str_find_str(line, STR("session-refused")) >= 0;
}

static void with_a_flood(void *arg)
{
    unsigned lines = 0;

    (void)arg;
    start();
    struct stream *first = greeted_from("198.51.100.1");
    log_level_set(LOG_INFO);
    log_redirect(count_refusals, &lines);
    for (unsigned i = 0; i < 500; i++) {
        struct stream *s = connect_from("198.51.100.1");
        assert_int_equal(hear(s), 421);
        stream_close(s);
    }
    log_redirect(NULL, NULL);
    log_level_set(LOG_ERROR + 1);
    assert_in_range(lines, 1, LIMIT_LOG_LINES_PER_HOUR + 1);
    stream_close(first);
    stop();
}

static void count_foreigners(void *arg, enum log_level level, struct str line)
{
    unsigned *count = arg;

    (void)level;
    *count += str_find_str(line, STR("foreign-protocol")) >= 0;
}

static void with_a_flood_of_browsers(void *arg)
{
    unsigned lines = 0;

    (void)arg;
    start();
    log_level_set(LOG_INFO);
    log_redirect(count_foreigners, &lines);
    for (unsigned i = 0; i < 2 * LIMIT_LOG_LINES_PER_HOUR; i++) {
        struct stream *s = greeted_from("198.51.100.1");
        assert_int_equal(say(s, "GET / HTTP/1.1\r\n"), 554);
        stream_close(s);
    }
    log_redirect(NULL, NULL);
    log_level_set(LOG_ERROR + 1);
    assert_in_range(lines, 1, LIMIT_LOG_LINES_PER_HOUR + 1);
    stop();
}

static void a_flood_is_few_lines_of_log(void **state)
{
    (void)state;
    run("", with_a_flood_of_browsers);
    run("client_connections_per_minute = 1", with_a_flood);
}

static void with_many_neighbours(void *arg)
{
    struct stream *s[5];

    (void)arg;
    start();
    s[0] = greeted_from("198.51.100.1");
    s[1] = greeted_from("198.51.100.2");
    s[2] = connect_from("198.51.100.3");         /* its first, and the third of its /24 */
    assert_int_equal(hear(s[2]), 421);
    s[3] = greeted_from("198.51.101.1");
    assert_int_equal(say(s[0], "QUIT\r\n"), 221);
    stream_close(s[0]);
    s[0] = NULL;
    assert_int_equal(task_sleep(NS_PER_S), 0);
    s[4] = greeted_from("198.51.100.3");
    for (int i = 0; i < 5; i++)
        stream_close(s[i]);
    stop();
}

static void a_network_is_limited_too(void **state)
{
    (void)state;
    run("sessions_per_client_max = 1\nclient_network_factor = 2", with_many_neighbours);
}

static void stopping(void *arg)
{
    struct inbound *in = inbound;

    (void)arg;
    inbound = NULL;
    inbound_stop(in);
}

static void with_a_stop(void *arg)
{
    (void)arg;
    start();
    struct stream *idle = greeted_from("198.51.100.1"), *busy = greeted_from("198.51.100.2"), *stuck = greeted_from("198.51.100.3");
    struct stream *streams[] = { busy, stuck };
    for (int i = 0; i < 2; i++) {
        assert_int_equal(say(streams[i], "MAIL FROM:<>\r\n"), 250);
        assert_int_equal(say(streams[i], "RCPT TO:<postmaster>\r\n"), 250);
        assert_int_equal(say(streams[i], "DATA\r\n"), 354);
    }
    assert_int_equal(task_start("stop", stopping, NULL), 0);
    assert_int_equal(hear(idle), 421);
    assert_int_equal(hear(idle), 0);
    assert_int_equal(say(busy, "text\r\n.\r\n"), 250);
    assert_int_equal(hear(busy), 421);
    int64_t before = clock_mono_ns();
    assert_int_equal(hear(stuck), 421);
    assert_true(clock_mono_ns() - before <= 30 * NS_PER_S);
    stream_close(idle);
    stream_close(busy);
    stream_close(stuck);
    assert_int_equal(task_sleep(10 * NS_PER_S), 0);
    assert_int_equal(queue_count(queue), 1);
    queue_close(queue);
}

static void stop_is_polite(void **state)
{
    (void)state;
    run("", with_a_stop);
}

static void with_breaking_connections(void *arg)
{
    size_t accepted = 0;

    (void)arg;
    start();
    for (uint64_t at = 0; at < 600; at++) {
        sim_net_cut_after(at);
        struct net_addr to;
        struct stream *s;
        assert_true(net_addr_parse(STR(SERVER), 25, &to));
        if (net_connect(&to, NULL, SOON, &s) == 0) {
            bool welcome = hear(s) == 220 && say(s, "EHLO tester.example\r\n") == 250;
            size_t before = queue_count(queue);
            int code = welcome ? send_message(s) : 0;
            assert_int_equal(task_sleep(NS_PER_S), 0);
            /* 250 means it is there. Without a reply it may be there or not, but never more than once. */
            size_t now = queue_count(queue);
            assert_true(code == 250 ? now == before + 1 : now - before <= 1);
            accepted += code == 250;
            stream_close(s);
        }
        sim_net_cut_after(UINT64_MAX);
    }
    assert_true(accepted > 0);
    stop();
}

static void connections_may_break_at_every_byte(void **state)
{
    (void)state;
    run("", with_breaking_connections);
}

static void without_a_free_address(void *arg)
{
    struct inbound *second = NULL;
    char error[256];

    (void)arg;
    start();
    assert_true(inbound_start(queue, &second, error) < 0);
    assert_null(second);
    assert_non_null(strstr(error, SERVER));
    assert_int_equal(inbound_listeners(inbound), 1);
    stop();
}

static void a_taken_address_is_an_error_with_its_name(void **state)
{
    (void)state;
    run("", without_a_free_address);
}

/* Real sockets: those of two loops share their address with each other, and with no other server. */
static void without_a_free_address_on_two_loops(void *arg)
{
    struct inbound *first, *second = NULL;
    struct net_addr at;
    char error[256], address[NET_ADDR_TEXT_MAX];
    struct conf *c = conf_current();

    (void)arg;
    assert_int_equal(inbound_start(NULL, &first, error), 0);
    inbound_address(first, 0, &at);
    c->listeners[0].address = str_of(net_addr_format(&at, address));
    assert_int_equal(inbound_start(NULL, &second, error), -EADDRINUSE);
    assert_null(second);
    inbound_stop(first);
    assert_int_equal(inbound_start(NULL, &second, error), 0);
    inbound_stop(second);
    conf_unref(c);
}

static void loops_share_with_nobody_else(void **state)
{
    (void)state;
    scene_conf(CONF, "submit_socket = \"\"");
    struct conf *c = conf_current();
    c->listeners[0].address = STR("127.0.0.1:0");
    conf_unref(c);
    assert_int_equal(loop_run(2, without_a_free_address_on_two_loops, NULL), 0);
    conf_set_current(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disk_in_trouble_is_4xx),
        cmocka_unit_test(a_deaf_client_is_left),
        cmocka_unit_test(eight_bits_are_what_is_there),
        cmocka_unit_test(text_must_come_fast_enough),
        cmocka_unit_test(sessions_are_limited),
        cmocka_unit_test(a_transaction_has_an_end),
        cmocka_unit_test(a_network_is_limited_too),
        cmocka_unit_test(a_flood_is_few_lines_of_log),
        cmocka_unit_test(stop_is_polite),
        cmocka_unit_test(connections_may_break_at_every_byte),
        cmocka_unit_test(a_taken_address_is_an_error_with_its_name),
        cmocka_unit_test(loops_share_with_nobody_else),
    };
    log_level_set(LOG_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
