/*
 * Rates: any hour, not only full ones; costs beyond the limit; more names than there is room for.
 */
#include "base/clock.h"
#include "base/rate.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int64_t now_ns;

static int64_t tell(void *self)
{
    (void)self;
    return now_ns;
}

static void no_random(void *self, void *out, size_t n)
{
    (void)self;
    for (size_t i = 0; i < n; i++)
        ((char *)out)[i] = 7;
}

static const struct clock_source frozen = { .mono_ns = tell, .wall_ns = tell, .random = no_random };

static int freeze(void **state)
{
    (void)state;
    now_ns = NS_PER_S;
    clock_replace(&frozen);
    return 0;
}

static int thaw(void **state)
{
    (void)state;
    clock_replace(NULL);
    return 0;
}

static void any_hour(void **state)
{
    struct rate *r = rate_new(10);

    (void)state;
    for (int i = 0; i < 60; i++)
        assert_true(rate_take(r, STR("alice"), 1, 60));
    assert_false(rate_take(r, STR("alice"), 1, 60));
    assert_true(rate_take(r, STR("bob"), 1, 60));
    now_ns += 59 * NS_PER_S;
    assert_false(rate_take(r, STR("alice"), 1, 60));
    now_ns += 1 * NS_PER_S;
    assert_true(rate_take(r, STR("alice"), 1, 60));
    assert_false(rate_take(r, STR("alice"), 1, 60));
    now_ns += 7200 * NS_PER_S;
    assert_false(rate_take(r, STR("alice"), 61, 60));
    assert_true(rate_take(r, STR("alice"), 60, 60));
    assert_false(rate_take(r, STR("alice"), 1, 60));
    rate_free(r);
}

static void strange_limits(void **state)
{
    struct rate *r = rate_new(10);

    (void)state;
    for (int i = 0; i < 100000; i++)
        assert_true(rate_take(r, STR("a"), UINT32_MAX, 0));
    assert_true(rate_take(r, STR("a"), 1, 1));
    assert_false(rate_take(r, STR("a"), 1, 1));
    assert_false(rate_take(r, STR("b"), UINT32_MAX, 1));
    assert_true(rate_take(r, STR("c"), 0, 1));
    assert_true(rate_take(r, STR("d"), 1000000, UINT32_MAX));
    assert_false(rate_take(r, STR(""), 1, 10));
    rate_free(r);
    rate_free(NULL);
}

static void more_names_than_room(void **state)
{
    struct rate *r = rate_new(2);

    (void)state;
    assert_true(rate_take(r, STR("a"), 1, 60));
    assert_true(rate_take(r, STR("b"), 60, 60));
    assert_false(rate_take(r, STR("c"), 1, 60));
    now_ns += 61 * NS_PER_S;                     /* a has paid */
    assert_true(rate_take(r, STR("c"), 1, 60));
    assert_false(rate_take(r, STR("d"), 1, 60));
    rate_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(any_hour, freeze, thaw),
        cmocka_unit_test_setup_teardown(strange_limits, freeze, thaw),
        cmocka_unit_test_setup_teardown(more_names_than_room, freeze, thaw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
