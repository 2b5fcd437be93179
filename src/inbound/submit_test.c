/*
 * The limit of the submit socket, on a clock of our own.
 */
#include "inbound/submit.h"
#include "base/clock.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

static int64_t now;

static int64_t the_time(void *self)
{
    (void)self;
    return now;
}

static void no_randomness(void *self, void *out, size_t n) { (void)self, (void)out, (void)n; }

static int set_up(void **state)
{
    static const struct clock_source source = { .mono_ns = the_time, .wall_ns = the_time, .random = no_randomness };

    (void)state;
    clock_replace(&source);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    clock_replace(NULL);
    return 0;
}

#define MINUTE (60 * NS_PER_S)

static void any_hour_has_its_limit(void **state)
{
    struct submit_limit l;

    (void)state;
    submit_limit_init(&l);
    for (int i = 0; i < 60; i++)
        assert_true(submit_limit_take(&l, 1000, 60));
    assert_false(submit_limit_take(&l, 1000, 60));
    assert_true(submit_limit_take(&l, 1001, 60));    /* another's affair */
    now += MINUTE;                                   /* one a minute comes back, not sixty at the full hour */
    assert_true(submit_limit_take(&l, 1000, 60));
    assert_false(submit_limit_take(&l, 1000, 60));
    now += 60 * MINUTE;
    for (int i = 0; i < 60; i++)
        assert_true(submit_limit_take(&l, 1000, 60));
    assert_false(submit_limit_take(&l, 1000, 60));
    submit_limit_free(&l);
}

static void the_largest_limit_is_one(void **state)
{
    struct submit_limit l;

    (void)state;
    submit_limit_init(&l);
    for (int i = 0; i < 100000; i++)
        assert_true(submit_limit_take(&l, 0, UINT32_MAX));
    assert_true(submit_limit_take(&l, UINT32_MAX, 1));
    assert_false(submit_limit_take(&l, UINT32_MAX, 1));
    submit_limit_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(any_hour_has_its_limit), cmocka_unit_test(the_largest_limit_is_one) };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
