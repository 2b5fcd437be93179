/*
 * Buckets: full at first, filled by time, each client's own; and the ways in which one could be kept out by another.
 */
#include "policy/limit.h"
#include "base/clock.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

static int64_t now_ns = NS_PER_S;

static int64_t now(void *self)
{
    (void)self;
    return now_ns;
}

/* Always the same places: a seed for the keyed hash. */
static void not_random(void *self, void *out, size_t n)
{
    (void)self;
    memset(out, 7, n);
}

static const struct clock_source frozen = { .mono_ns = now, .wall_ns = now, .random = not_random };
static struct limits *limits;
static struct conf conf = {
    .client_connections_per_minute = 6,
    .client_errors_per_hour = 10,
    .client_unknown_users_per_hour = 5,
    .client_login_failures_per_hour = 3,
    .login_failures_per_hour = 4,
    .client_network_factor = 2,
};

static int set_up(void **state)
{
    (void)state;
    clock_replace(&frozen);
    limits = limits_new();
    return limits == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    limits_free(limits);
    clock_replace(NULL);
    return 0;
}

static struct limit_client client(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    uint8_t ip[4] = { a, b, c, d };
    struct limit_client who;

    limit_find_client(limits, ip, 4, &who);
    return who;
}

/* 2001:db8:NET:SUBNET::HOST */
static struct limit_client client6(uint8_t net, uint8_t subnet, uint8_t host)
{
    uint8_t ip[16] = { 0x20, 0x01, 0x0d, 0xb8, 0, net, 0, subnet, [15] = host };
    struct limit_client who;

    limit_find_client(limits, ip, 16, &who);
    return who;
}

static unsigned take_all(enum limit_kind kind, const struct limit_client *who)
{
    unsigned n = 0;

    while (n < 1000 && limit_take(limits, &conf, kind, who))
        n++;
    return n;
}

static void a_bucket_fills_evenly(void **state)
{
    struct limit_client a = client(192, 0, 2, 1);

    (void)state;
    assert_int_equal(take_all(LIMIT_CONNECTIONS, &a), 6);
    assert_true(limit_is_spent(limits, &conf, LIMIT_CONNECTIONS, &a));
    assert_int_equal(limit_used(limits, &conf, LIMIT_CONNECTIONS, &a), 6);
    now_ns += 10 * NS_PER_S - 1;
    assert_false(limit_take(limits, &conf, LIMIT_CONNECTIONS, &a));
    now_ns += 1;
    assert_int_equal(take_all(LIMIT_CONNECTIONS, &a), 1);
    now_ns += 3600 * NS_PER_S;
    assert_int_equal(limit_used(limits, &conf, LIMIT_CONNECTIONS, &a), 0);
    assert_int_equal(take_all(LIMIT_CONNECTIONS, &a), 6);        /* and not more than full */
}

static void each_has_its_own(void **state)
{
    struct limit_client a = client(192, 0, 2, 1), b = client(198, 51, 100, 1);

    (void)state;
    assert_int_equal(take_all(LIMIT_ERRORS, &a), 10);
    assert_int_equal(take_all(LIMIT_UNKNOWN_USERS, &a), 5);      /* another kind */
    assert_int_equal(take_all(LIMIT_ERRORS, &b), 10);
}

static void a_network_has_so_many_times_as_much(void **state)
{
    (void)state;
    unsigned taken = 0;
    for (uint8_t host = 1; host <= 50; host++) {
        struct limit_client who = client(203, 0, 113, host);
        taken += take_all(LIMIT_CONNECTIONS, &who);
    }
    assert_int_equal(taken, 12);
    struct limit_client next_door = client(203, 0, 114, 1);
    assert_int_equal(take_all(LIMIT_CONNECTIONS, &next_door), 6);
}

static void a_64_is_one_client_and_a_48_one_network(void **state)
{
    struct limit_client a = client6(1, 1, 1), b = client6(1, 1, 2), c = client6(1, 2, 1), d = client6(1, 3, 1), e = client6(2, 1, 1);

    (void)state;
    assert_int_equal(take_all(LIMIT_CONNECTIONS, &a), 6);
    assert_int_equal(take_all(LIMIT_CONNECTIONS, &b), 0);
    assert_int_equal(take_all(LIMIT_CONNECTIONS, &c), 6);
    assert_int_equal(take_all(LIMIT_CONNECTIONS, &d), 0);
    assert_int_equal(take_all(LIMIT_CONNECTIONS, &e), 6);
}

static void none_is_no_limit(void **state)
{
    struct limit_client a = client(192, 0, 2, 1);

    (void)state;
    assert_int_equal(take_all(LIMIT_MESSAGES, &a), 1000);
    assert_false(limit_is_spent(limits, &conf, LIMIT_MESSAGES, &a));
    assert_int_equal(limit_used(limits, &conf, LIMIT_MESSAGES, &a), 0);
}

static void strangers_rarely_pay_for_each_other(void **state)
{
    unsigned short_of_one = 0;

    (void)state;
    conf.client_network_factor = 0;
    for (unsigned i = 0; i < 5000; i++) {        /* so many attackers, each with nothing left */
        struct limit_client who = client(10, (uint8_t)(i >> 8), (uint8_t)i, 1);
        (void)take_all(LIMIT_UNKNOWN_USERS, &who);
    }
    for (unsigned i = 0; i < 5000; i++) {
        struct limit_client who = client(11, (uint8_t)(i >> 8), (uint8_t)i, 1);
        short_of_one += limit_is_spent(limits, &conf, LIMIT_UNKNOWN_USERS, &who);
    }
    conf.client_network_factor = 2;
    assert_in_range(short_of_one, 0, 50);        /* in one row alone it would be 370 */
}

static void a_login_is_blocked_but_not_for_its_owner(void **state)
{
    static const uint8_t home[4] = { 192, 0, 2, 1 }, elsewhere[4] = { 198, 51, 100, 1 };
    struct str alice = STR("alice@here.example");

    (void)state;
    limit_login_worked(limits, alice, home, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_false(limit_login_blocked(limits, &conf, alice, elsewhere, 4));
        limit_login_failed(limits, &conf, alice);
        assert_int_equal(limit_login_failures(limits, &conf, STR("ALICE@here.example")), i + 1);
    }
    assert_true(limit_login_blocked(limits, &conf, alice, elsewhere, 4));
    assert_true(limit_login_blocked(limits, &conf, STR("Alice@Here.example"), elsewhere, 4));
    assert_false(limit_login_blocked(limits, &conf, alice, home, 4));
    assert_false(limit_login_blocked(limits, &conf, STR("bob@here.example"), elsewhere, 4));
    now_ns += 3600 * NS_PER_S / 4;
    assert_false(limit_login_blocked(limits, &conf, alice, elsewhere, 4));   /* for a while only */
    for (unsigned i = 0; i < 4; i++)
        limit_login_failed(limits, &conf, alice);
    now_ns += (LIMIT_ACQUAINTED_DAYS * 24 + 1) * 3600 * NS_PER_S;
    for (unsigned i = 0; i < 4; i++)
        limit_login_failed(limits, &conf, alice);
    assert_true(limit_login_blocked(limits, &conf, alice, home, 4));         /* nobody is known for ever */
}

static void names_of_any_length_have_a_place(void **state)
{
    static char name[5000];

    (void)state;
    memset(name, 'x', sizeof name);
    limit_login_failed(limits, &conf, (struct str){ name, sizeof name });
    assert_int_equal(limit_login_failures(limits, &conf, (struct str){ name, sizeof name }), 1);
    assert_int_equal(limit_login_failures(limits, &conf, STR("")), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(a_bucket_fills_evenly),
        TEST(each_has_its_own),
        TEST(a_network_has_so_many_times_as_much),
        TEST(a_64_is_one_client_and_a_48_one_network),
        TEST(none_is_no_limit),
        TEST(strangers_rarely_pay_for_each_other),
        TEST(a_login_is_blocked_but_not_for_its_owner),
        TEST(names_of_any_length_have_a_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
