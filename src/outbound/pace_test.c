/*
 * outbound/pace: one ahead, quick opening, one cut for all that was together, ceilings that are kept, tries in vain, dead sites, rests.
 */
#include "outbound/pace.h"
#include "base/clock.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define S      NS_PER_S
#define MINUTE (60 * S)

static const struct pace_settings twenty = { .connections_max = 20 };
static int64_t now;

static struct pace fresh(const struct pace_settings *settings)
{
    struct pace p;
    now = 1000 * S;
    pace_init(&p, settings);
    return p;
}

static unsigned begin_all(struct pace *p)
{
    unsigned n = 0;
    for (; pace_when(p, now) <= now; n++)
        pace_begin(p, now);
    return n;
}

static void end_all(struct pace *p, enum pace_event event, int64_t began)
{
    while (p->inside > 0)
        pace_end(p, event, 0, began, now);
}

/* A site that bears so many at a time, for a while. */
static void run_with_limit(struct pace *p, unsigned limit, int64_t for_ns, unsigned *out_refused)
{
    *out_refused = 0;
    for (int64_t until = now + for_ns; now < until;) {
        int64_t began = now;
        unsigned n = begin_all(p);
        now += S;
        for (unsigned i = 0; i < n; i++)
            pace_end(p, i < limit ? PACE_TAKEN : PACE_TOO_MANY, 0, began, now);
        *out_refused += n > limit ? n - limit : 0;
    }
}

static void one_goes_ahead(void **state)
{
    struct pace p = fresh(&twenty);

    (void)state;
    assert_int_equal(begin_all(&p), 1);
    assert_int_equal(pace_when(&p, now), PACE_NEVER);
    end_all(&p, PACE_NOTHING, now);                           /* cancelled: that tells nothing */
    assert_int_equal(begin_all(&p), 1);
    end_all(&p, PACE_TAKEN, now);
    assert_int_equal(begin_all(&p), 2);
    end_all(&p, PACE_TAKEN, now);
    assert_int_equal(begin_all(&p), 4);
}

static void never_more_than_the_maximum(void **state)
{
    struct pace p = fresh(&twenty);

    (void)state;
    for (int i = 0; i < 100; i++) {
        assert_true(begin_all(&p) <= 20);
        end_all(&p, PACE_TAKEN, now);
    }
    assert_int_equal(begin_all(&p), 20);
    end_all(&p, PACE_TAKEN, now);
    pace_configure(&p, &(struct pace_settings){ .connections_max = 3 });
    assert_int_equal(begin_all(&p), 3);
}

static void a_limit_is_found_and_kept(void **state)
{
    struct pace p = fresh(&twenty);
    unsigned refused;

    (void)state;
    run_with_limit(&p, 5, 20 * S, &refused);
    assert_in_range(refused, 1, 8);
    assert_int_equal(p.together.value, 5000);
    run_with_limit(&p, 5, 60 * MINUTE, &refused);             /* 3600 rounds of 5 */
    assert_in_range(refused, 1, 12);
    assert_in_range(p.together.value, 5000, 6000);
}

static void a_limit_that_is_lifted_heals(void **state)
{
    struct pace p = fresh(&twenty);
    unsigned refused;

    (void)state;
    run_with_limit(&p, 2, 60 * MINUTE, &refused);
    assert_in_range(p.together.value, 2000, 3000);
    run_with_limit(&p, 100, 60 * MINUTE, &refused);
    assert_int_equal(p.together.value, 20000);
    assert_true(p.together.ceiling > p.together.max);         /* nothing is left of it */
}

static void not_even_one_at_a_time(void **state)
{
    struct pace p = fresh(&twenty);

    (void)state;
    assert_int_equal(begin_all(&p), 1);
    end_all(&p, PACE_TOO_MANY, now);
    int64_t first = pace_when(&p, now);
    now = first;
    (void)begin_all(&p);
    end_all(&p, PACE_TOO_MANY, now);
    assert_true(pace_when(&p, now) > now);                    /* it is left alone for a while, and then for longer */
    assert_true(pace_when(&p, now) - now >= 5 * S);
}

static void a_rate_is_learnt_and_paced(void **state)
{
    struct pace p = fresh(&twenty);
    unsigned refused = 0, taken = 0;
    double tokens = 20;

    (void)state;
    for (int64_t began = now; now < began + 30 * MINUTE; now += 10 * NS_PER_MS) {
        tokens = tokens < 20 ? tokens + 0.02 : 20;            /* two a second */
        if (pace_when(&p, now) > now)
            continue;
        pace_begin(&p, now);
        bool good = tokens >= 1;
        tokens -= good;
        taken += good;
        refused += !good && now > began + 10 * MINUTE;
        pace_end(&p, good ? PACE_TAKEN : PACE_TOO_FAST, 0, now, now);
    }
    assert_in_range(taken, 2 * 1800 * 7 / 10, 2 * 1800 + 20);
    assert_in_range(refused, 0, 20);                          /* of 2400 */
}

static void the_wait_is_kept(void **state)
{
    struct pace p = fresh(&twenty);

    (void)state;
    (void)begin_all(&p);
    pace_end(&p, PACE_TOO_FAST, 300 * S, now, now);
    assert_int_equal(pace_when(&p, now), now + 300 * S);
    assert_false(pace_is_down(&p, now + 301 * S));
}

static void a_maximum_rate_is_kept_to_the_millisecond(void **state)
{
    struct pace p = fresh(&(struct pace_settings){ .connections_max = 20, .rate_per_hour_max = 36000 });
    unsigned count = 0;

    (void)state;
    for (int64_t until = now + 100 * S; now < until; now += NS_PER_MS) {
        if (pace_when(&p, now) > now)
            continue;
        pace_begin(&p, now);
        pace_end(&p, PACE_TAKEN, 0, now, now);
        count++;
    }
    assert_in_range(count, 990, 1002);                        /* ten a second; the one it may catch up is in it */
}

static void a_dead_site_gets_one_probe_at_a_time(void **state)
{
    struct pace p = fresh(&twenty);
    unsigned refused, probes = 0;

    (void)state;
    run_with_limit(&p, 100, 20 * S, &refused);
    int64_t began = now;
    unsigned n = begin_all(&p);
    assert_true(n > 10);
    now += 30 * S;
    end_all(&p, PACE_UNREACHED, began);                       /* all that were there: that is one failure, not twenty */
    assert_true(pace_is_down(&p, now));
    assert_int_equal(p.rest_ns, 30 * S);
    for (int64_t until = now + 720 * MINUTE; now < until; probes++) {
        now = pace_when(&p, now);
        assert_int_equal(begin_all(&p), 1);
        end_all(&p, PACE_UNREACHED, now);
    }
    assert_in_range(probes, 20, 32);
    now = pace_when(&p, now);
    (void)begin_all(&p);
    end_all(&p, PACE_TAKEN, now);
    assert_false(pace_is_down(&p, now));
    run_with_limit(&p, 100, 20 * S, &refused);
    assert_int_equal(begin_all(&p), 20);                      /* all is well again, at once */
}

static void one_failure_of_a_site_that_is_well_is_none(void **state)
{
    struct pace p = fresh(&twenty);
    unsigned refused;

    (void)state;
    run_with_limit(&p, 100, 20 * S, &refused);
    for (int i = 0; i < 50; i++) {
        pace_begin(&p, now);
        pace_end(&p, PACE_UNREACHED, 0, now, now);
        pace_begin(&p, now);
        pace_end(&p, PACE_TAKEN, 0, now, now);
    }
    assert_false(pace_is_down(&p, now));
    assert_int_equal(begin_all(&p), 20);
}

static void blocked_is_a_long_rest(void **state)
{
    struct pace p = fresh(&twenty);

    (void)state;
    (void)begin_all(&p);
    end_all(&p, PACE_BLOCKED, now);
    assert_true(pace_is_down(&p, now + 59 * MINUTE));
    assert_int_equal(pace_when(&p, now), now + 60 * MINUTE);
}

static void ipv6_is_left_for_a_time(void **state)
{
    struct pace p = fresh(&twenty);

    (void)state;
    (void)begin_all(&p);
    end_all(&p, PACE_FAMILY, now);
    assert_true(pace_wants_ipv4(&p, now + 300 * MINUTE));
    assert_false(pace_wants_ipv4(&p, now + 400 * MINUTE));
    assert_true(pace_when(&p, now) == now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_goes_ahead),
        cmocka_unit_test(never_more_than_the_maximum),
        cmocka_unit_test(a_limit_is_found_and_kept),
        cmocka_unit_test(a_limit_that_is_lifted_heals),
        cmocka_unit_test(not_even_one_at_a_time),
        cmocka_unit_test(a_rate_is_learnt_and_paced),
        cmocka_unit_test(the_wait_is_kept),
        cmocka_unit_test(a_maximum_rate_is_kept_to_the_millisecond),
        cmocka_unit_test(a_dead_site_gets_one_probe_at_a_time),
        cmocka_unit_test(one_failure_of_a_site_that_is_well_is_none),
        cmocka_unit_test(blocked_is_a_long_rest),
        cmocka_unit_test(ipv6_is_left_for_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
