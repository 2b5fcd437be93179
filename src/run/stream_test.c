/*
 * run/stream: buffering, ends, errors, deadlines and cancellation, each over a pipe in memory and over loopback TCP.
 *
 * What runs in a task checks with CHECK: cmocka's own asserts jump to the stack of the test, which a task is not on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "run/loop.h"
#include "run/net.h"
#include "run/stream.h"
#include "run/stream_internal.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Two ends, in memory or over TCP. */

typedef void make_fn(struct stream **a, struct stream **b);

static void make_memory(struct stream **a, struct stream **b)
{
    CHECK_IS(stream_pair(70000, a, b), 0);
}

static void make_tcp(struct stream **a, struct stream **b)
{
    struct net_listener *l;
    struct net_addr      at, peer, other;

    CHECK(net_addr_parse(STR("127.0.0.1:0"), 0, &at));
    CHECK_IS(net_listen(&at, false, &l), 0);
    net_listener_addr(l, &at);
    CHECK_IS(net_connect(&at, NULL, soon(), a), 0);
    CHECK_IS(net_accept(l, soon(), b, &peer), 0);
    stream_local(*a, &other);
    CHECK(net_addr_eq(&peer, &other));
    stream_peer(*b, &other);
    CHECK(net_addr_eq(&peer, &other));
    stream_peer(*a, &other);
    CHECK(net_addr_eq(&at, &other));
    net_listener_close(l);
}

struct job {
    make_fn *make;
    void (*body)(struct stream *a, struct stream *b);   /* a and b are closed afterwards */
};

static void job_task(void *arg)
{
    struct job    *job = arg;
    struct stream *a, *b;

    job->make(&a, &b);
    job->body(a, b);
}

static void over(make_fn *make, void (*body)(struct stream *a, struct stream *b))
{
    struct job job = { make, body };

    assert_int_equal(loop_run(1, job_task, &job), 0);
}

static void over_both(void (*body)(struct stream *a, struct stream *b))
{
    over(make_memory, body);
    over(make_tcp, body);
}

static void say(struct stream *s, const char *text)
{
    CHECK_IS(stream_put(s, str_of(text)), 0);
    CHECK_IS(stream_flush(s, soon()), 0);
}

static void expect(struct stream *s, const char *text)
{
    struct str want = str_of(text);

    while (stream_pending(s).n < want.n)
        CHECK(stream_fill(s, soon()) > 0);
    CHECK(str_starts(stream_pending(s), want));
    stream_consume(s, want.n);
}

static void expect_nothing_held(const struct stream *s)
{
    CHECK(s->in.p == NULL && s->out.p == NULL);
}

static void close_both(struct stream *a, struct stream *b)
{
    stream_close(a);
    stream_close(b);
}

/* The tests. */

static void split_writes(struct stream *a, struct stream *b)
{
    say(a, "EH");
    CHECK(stream_fill(b, soon()) > 0);
    CHECK(str_eq(stream_pending(b), STR("EH")));
    CHECK_IS(stream_put(a, STR("LO")), 0);
    CHECK_IS(stream_unsent(a), 2);
    say(a, " x\r\nNO");
    CHECK_IS(stream_unsent(a), 0);
    expect(b, "EHLO x\r\n");
    expect(b, "NO");
    CHECK_IS(stream_pending(b).n, 0);
    expect_nothing_held(a);
    expect_nothing_held(b);
    say(b, "");
    say(b, "250 ok\r\n");
    expect(a, "250 ");
    expect(a, "ok\r\n");
    close_both(a, b);
}

static void test_split_writes(void **state)
{
    (void)state;
    over_both(split_writes);
}

/* What is in front of a handshake is read, and nothing behind it. */
static void at_most(struct stream *a, struct stream *b)
{
    say(a, "header|behind it");
    CHECK_IS(stream_fill_at_most(b, 3, soon()), 3);
    CHECK_IS(stream_fill_at_most(b, 4, soon()), 4);
    CHECK(str_eq(stream_pending(b), STR("header|")));
    stream_consume(b, 7);
    CHECK_IS(stream_fill(b, soon()), 9);
    CHECK(str_eq(stream_pending(b), STR("behind it")));
    stream_consume(b, 9);
    close_both(a, b);
}

static void test_at_most(void **state)
{
    (void)state;
    over_both(at_most);
}

/* What a guarded stream gave out does not stay in its buffer, and what is still pending does, when the buffer grows too. */
static void guarded(struct stream *a, struct stream *b)
{
    static char long_line[10000];

    memset(long_line, 'p', sizeof long_line);
    stream_guard(b, true);
    stream_consume(b, 0);                /* of an empty buffer */
    CHECK_IS(stream_put(a, STR("AUTH secret\r\nNOOP\r\n")), 0);
    CHECK_IS(stream_flush(a, soon()), 0);
    expect(b, "AUTH secret\r\n");
    CHECK(b->in.p != NULL);
    for (uint32_t i = 0; i < b->in.start; i++)
        CHECK_IS(b->in.p[i], 0);
    expect(b, "NOOP\r\n");
    expect_nothing_held(b);

    CHECK_IS(stream_put(a, STR("NOOP\r\n")), 0);
    CHECK_IS(stream_put(a, (struct str){ long_line, sizeof long_line }), 0);
    CHECK_IS(stream_flush(a, soon()), 0);
    while (stream_pending(b).n < sizeof long_line + 6)
        CHECK(stream_fill_at_most(b, 1000, soon()) > 0);
    expect(b, "NOOP\r\n");
    CHECK(memcmp(stream_pending(b).p, long_line, sizeof long_line) == 0);
    stream_guard(b, false);
    stream_discard_pending(b);

    stream_guard(a, true);
    say(a, "secret");
    expect_nothing_held(a);
    expect(b, "secret");
    close_both(a, b);
}

static void test_guarded(void **state)
{
    (void)state;
    over_both(guarded);
}

static void end_of_input(struct stream *a, struct stream *b)
{
    say(a, "QUIT\r\n");
    stream_close(a);
    while (stream_pending(b).n < 6)
        CHECK(stream_fill(b, soon()) > 0);
    for (int i = 0; i < 3; i++)
        CHECK_IS(stream_fill(b, soon()), 0);
    expect(b, "QUIT\r\n");
    CHECK_IS(stream_fill(b, soon()), 0);
    stream_close(b);
}

static void test_end_of_input(void **state)
{
    (void)state;
    over_both(end_of_input);
}

static void reset(struct stream *a, struct stream *b)
{
    say(a, "unread");
    CHECK(stream_fill(b, soon()) > 0);
    say(a, "more");
    stream_close(b);                 /* with unread bytes, TCP resets */
    CHECK_IS(stream_fill(a, soon()), -ECONNRESET);
    CHECK_IS(stream_fill(a, soon()), -ECONNRESET);
    CHECK_IS(stream_put(a, STR("x")), -ECONNRESET);
    CHECK_IS(stream_flush(a, soon()), -ECONNRESET);
    CHECK_IS(stream_shutdown(a, soon()), -ECONNRESET);
    stream_close(a);
}

static void test_reset(void **state)
{
    (void)state;
    over(make_tcp, reset);
}

/* A write to a peer that has gone fails, but what it said first can still be read. */
static void last_words(struct stream *a, struct stream *b)
{
    int r = 0;

    say(b, "421 bye\r\n");
    stream_close(b);
    for (int i = 0; i < 1000 && r == 0; i++) {
        CHECK(stream_put(a, STR("MAIL\r\n")) == 0);
        r = stream_flush(a, soon());
        if (r == 0)
            CHECK_IS(task_sleep(NS_PER_MS), 0);
    }
    CHECK(r == -EPIPE || r == -ECONNRESET);
    CHECK_IS(stream_flush(a, soon()), r);
    CHECK_IS(stream_put(a, STR("x")), r);
    expect(a, "421 bye\r\n");
    CHECK_IS(stream_fill(a, soon()), r);
    CHECK_IS(stream_fill(a, soon()), r);
    stream_close(a);
}

static void test_last_words(void **state)
{
    (void)state;
    over_both(last_words);
}

static void fill_task(void *arg)
{
    struct stream *s = arg;
    char           block[1000];

    memset(block, 'x', sizeof block);
    for (int i = 0; i < 100; i++)
        CHECK_IS(stream_put(s, (struct str){ block, sizeof block }), 0);
    CHECK_IS(stream_flush(s, soon()), 0);
    stream_close(s);
}

static void pending_limit(struct stream *a, struct stream *b)
{
    ssize_t r;
    size_t  total = 0;

    CHECK_IS(task_start("fill", fill_task, a), 0);
    while ((r = stream_fill(b, soon())) > 0)
        total += (size_t)r;
    CHECK_IS(r, -ENOBUFS);
    CHECK_IS(total, STREAM_INPUT_MAX);
    CHECK_IS(stream_pending(b).n, STREAM_INPUT_MAX);
    CHECK_IS(stream_fill(b, soon()), -ENOBUFS);
    stream_consume(b, 1);
    CHECK_IS(stream_fill(b, soon()), 1);
    stream_consume(b, STREAM_INPUT_MAX - 10);
    while ((r = stream_fill(b, soon())) > 0) {
        total += (size_t)r;
        stream_consume(b, (size_t)r);
    }
    CHECK_IS(r, 0);
    CHECK_IS(total + 1, 100000);
    CHECK(str_eq(stream_pending(b), STR("xxxxxxxxxx")));
    stream_close(b);
}

static void test_pending_limit(void **state)
{
    (void)state;
    over_both(pending_limit);
}

static void deadlines(struct stream *a, struct stream *b)
{
    char    big[60000];
    size_t  put = 0;
    ssize_t r = 0;

    CHECK_IS(stream_fill(b, clock_mono_ns() - 1), -ETIMEDOUT);
    CHECK_IS(stream_fill(b, task_deadline_in(5 * NS_PER_MS)), -ETIMEDOUT);
    say(a, "late");
    expect(b, "late");               /* a deadline that passed is not the end */

    /* Nobody reads: in the end a write waits, and what was buffered is neither lost nor doubled. */
    memset(big, 'y', sizeof big);
    stream_write_deadline(a, task_deadline_in(20 * NS_PER_MS));
    while ((r = stream_put(a, (struct str){ big, sizeof big })) == 0 && (r = stream_flush(a, task_deadline_in(10 * NS_PER_MS))) == 0)
        put += sizeof big;
    CHECK_IS(r, -ETIMEDOUT);
    size_t unsent = stream_unsent(a);
    CHECK(unsent > 0);
    CHECK_IS(stream_flush(a, task_deadline_in(5 * NS_PER_MS)), -ETIMEDOUT);
    size_t got = 0;
    while (stream_unsent(a) > 0) {
        r = stream_fill(b, task_deadline_in(NS_PER_MS));
        if (r > 0) {
            got += (size_t)r;
            stream_consume(b, (size_t)r);
        }
        r = stream_flush(a, task_deadline_in(NS_PER_MS));
        CHECK(r == 0 || r == -ETIMEDOUT);
    }
    stream_close(a);
    while ((r = stream_fill(b, soon())) > 0) {
        got += (size_t)r;
        stream_consume(b, (size_t)r);
    }
    CHECK_IS(r, 0);
    CHECK(got >= put && got <= put + sizeof big);
    stream_close(b);
}

static void test_deadlines(void **state)
{
    (void)state;
    over_both(deadlines);
}

static int canceled_result;

static void wait_task(void *arg)
{
    canceled_result = (int)stream_fill(arg, TASK_FOREVER);
    CHECK_IS(stream_fill(arg, TASK_FOREVER), -ECANCELED);
    task_shield_begin();
    CHECK_IS(stream_put(arg, STR("421 4.3.2 going down\r\n")), 0);
    CHECK_IS(stream_flush(arg, soon()), 0);
    CHECK_IS(stream_fill(arg, task_deadline_in(NS_PER_MS)), -ETIMEDOUT);
    task_shield_end();
    stream_close(arg);
}

static void cancellation(struct stream *a, struct stream *b)
{
    struct task_group group;

    canceled_result = 1;
    task_group_init(&group);
    CHECK_IS(task_group_start(&group, "waits", wait_task, b), 0);
    CHECK_IS(task_sleep(NS_PER_MS), 0);
    CHECK_IS(canceled_result, 1);
    task_group_cancel(&group);
    CHECK_IS(task_group_wait(&group, soon()), 0);
    CHECK_IS(canceled_result, -ECANCELED);
    expect(a, "421 4.3.2 going down\r\n");
    CHECK_IS(stream_fill(a, soon()), 0);
    stream_close(a);
}

static void test_cancellation(void **state)
{
    (void)state;
    over_both(cancellation);
}

/* 8 MiB each way at once, in pieces of odd sizes; every byte is looked at. */

#define TRANSFER (8u * 1024 * 1024)

static uint8_t byte_at(uint32_t i)
{
    return (uint8_t)(i * 2654435761u >> 24);
}

static void send_all(struct stream *s)
{
    static char block[40000];        /* one sender at a time */

    for (uint32_t i = 0, n; i < TRANSFER; i += n) {
        n = i % 97 == 0 ? 33333 : 1 + i % 1777;
        n = n < TRANSFER - i ? n : TRANSFER - i;
        for (uint32_t j = 0; j < n; j++)
            block[j] = (char)byte_at(i + j);
        CHECK_IS(stream_put(s, (struct str){ block, n }), 0);
    }
    CHECK_IS(stream_flush(s, soon()), 0);
}

static void receive_all(struct stream *s)
{
    uint32_t i = 0;

    while (i < TRANSFER) {
        if (stream_pending(s).n == 0 || i % 3 == 0)
            CHECK(stream_fill(s, soon()) > 0 || stream_pending(s).n == STREAM_INPUT_MAX);
        struct str got = stream_pending(s);
        size_t     n = got.n > 700 ? got.n - 700 : got.n;
        for (size_t j = 0; j < n; j++)
            CHECK((uint8_t)got.p[j] == byte_at(i + (uint32_t)j));
        stream_consume(s, n);
        i += (uint32_t)n;
    }
    CHECK_IS(i, TRANSFER);
}

static void send_task(void *arg)
{
    send_all(arg);
}

static void receive_task(void *arg)
{
    receive_all(arg);
}

static void transfer(struct stream *a, struct stream *b)
{
    struct task_group group;

    task_group_init(&group);
    CHECK_IS(task_group_start(&group, "sends", send_task, a), 0);
    receive_all(b);
    CHECK_IS(task_group_wait(&group, soon()), 0);
    CHECK_IS(task_group_start(&group, "receives", receive_task, a), 0);
    send_all(b);
    CHECK_IS(task_group_wait(&group, soon()), 0);
    expect_nothing_held(a);
    expect_nothing_held(b);
    close_both(a, b);
}

static void make_narrow(struct stream **a, struct stream **b)
{
    CHECK_IS(stream_pair(4001, a, b), 0);
}

static void test_transfer(void **state)
{
    (void)state;
    over(make_narrow, transfer);
    over(make_tcp, transfer);
}

static void shutting_down(struct stream *a, struct stream *b)
{
    CHECK_IS(stream_put(a, STR("221 bye\r\n")), 0);
    say(b, "things nobody will read");
    say(b, " or want");
    CHECK_IS(stream_shutdown(a, task_deadline_in(5 * NS_PER_MS)), -ETIMEDOUT);   /* b is not done yet */
    expect(b, "221 bye\r\n");
    CHECK_IS(stream_fill(b, soon()), 0);
    CHECK_IS(stream_shutdown(b, soon()), 0);
    CHECK_IS(stream_shutdown(a, soon()), 0);
    CHECK_IS(stream_put(a, STR("x")), -EPIPE);
    close_both(a, b);
}

static void test_shutdown(void **state)
{
    (void)state;
    over_both(shutting_down);
}

static unsigned other_turns;
static bool     other_stop;

static void other_task(void *arg)
{
    (void)arg;
    while (!other_stop) {
        other_turns++;
        CHECK_IS(task_yield(), 0);
    }
}

/* A peer whose bytes are always there does not keep the loop for itself. */
static void fairness(struct stream *a, struct stream *b)
{
    char block[60];

    memset(block, 'z', sizeof block);
    other_turns = 0;
    other_stop = false;
    CHECK_IS(task_start("other", other_task, NULL), 0);
    for (int i = 0; i < 200; i++) {
        CHECK_IS(stream_put(a, (struct str){ block, sizeof block }), 0);
        CHECK_IS(stream_flush(a, soon()), 0);
        if (i == 100)
            CHECK(other_turns >= 4);
        CHECK_IS(stream_fill(b, soon()), sizeof block);
        stream_discard_pending(b);
    }
    CHECK(other_turns >= 10);
    other_stop = true;
    close_both(a, b);
}

static void test_fairness(void **state)
{
    (void)state;
    over(make_memory, fairness);
}

static void big_puts(struct stream *a, struct stream *b)
{
    static char block[50000];

    memset(block, 'q', sizeof block);
    CHECK_IS(stream_put(a, (struct str){ block, sizeof block }), 0);   /* goes out directly, as far as there is room */
    CHECK(stream_fill(b, soon()) > 0);
    CHECK_IS(stream_put(a, STR("end")), 0);
    CHECK_IS(stream_flush(a, soon()), 0);
    stream_close(a);
    size_t n = 0;
    char   last = 0;
    do {
        struct str got = stream_pending(b);
        if (got.n > 0)
            last = got.p[got.n - 1];
        n += got.n;
        stream_discard_pending(b);
    } while (stream_fill(b, soon()) > 0);
    CHECK_IS(n, sizeof block + 3);
    CHECK_IS(last, 'd');
    stream_close(b);
}

static void test_big_puts(void **state)
{
    (void)state;
    over_both(big_puts);
}

static void plain_facts(struct stream *a, struct stream *b)
{
    unsigned uid;

    CHECK(!stream_is_tls(a));
    CHECK(strcmp(stream_tls_protocol(a), "") == 0 && strcmp(stream_tls_cipher(a), "") == 0 && strcmp(stream_tls_error(a), "") == 0);
    CHECK_IS(stream_tls_bits(a), 0);
    CHECK_IS(stream_peer_uid(b, &uid), -ENOTSOCK);
    stream_close(NULL);
    close_both(a, b);
}

static void test_plain_facts(void **state)
{
    (void)state;
    over_both(plain_facts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split_writes),
        cmocka_unit_test(test_at_most),
        cmocka_unit_test(test_guarded),
        cmocka_unit_test(test_end_of_input),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_last_words),
        cmocka_unit_test(test_pending_limit),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_cancellation),
        cmocka_unit_test(test_transfer),
        cmocka_unit_test(test_shutdown),
        cmocka_unit_test(test_fairness),
        cmocka_unit_test(test_big_puts),
        cmocka_unit_test(test_plain_facts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
