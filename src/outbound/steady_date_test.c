/*
 * outbound/steady_date: what a message has waited, over jumps of the date.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "outbound/steady_date.h"

#define HOUR  (3600 * NS_PER_S)
#define YEAR  (365 * 24 * HOUR)
#define START (50 * YEAR)

/* One look after another, an hour of the monotonic clock between them. */
static const struct {
    const char *what;
    int64_t     wall[3];
    int64_t     begin;
    int64_t     date;                    /* of that message, at the end */
} cases[] = {
    { "no jump",                    { START + HOUR, START + 2 * HOUR, START + 3 * HOUR },                      START,            START + 3 * HOUR        },
    { "set right by minutes",       { START + HOUR + 200 * NS_PER_S, START + 2 * HOUR, START + 3 * HOUR },     START,            START + 3 * HOUR        },
    { "by an hour",                 { START + HOUR, START + 3 * HOUR, START + 4 * HOUR },                      START,            START + 3 * HOUR        },
    { "by years",                   { START + HOUR, START + 10 * YEAR, START + 10 * YEAR + HOUR },             START,            START + 3 * HOUR        },
    { "came after it",              { START + HOUR, START + 10 * YEAR + 2 * HOUR, START + 10 * YEAR + 3 * HOUR },
                                    START + 10 * YEAR + 90 * 60 * NS_PER_S, START + 10 * YEAR + 3 * HOUR },
    { "there and back",             { START + HOUR, START + 10 * YEAR, START + 3 * HOUR },                     START,            START + 3 * HOUR        },
    { "came then, and back",        { START + HOUR, START + 10 * YEAR, START + 3 * HOUR },                     START + 10 * YEAR, START + 10 * YEAR + HOUR },
    { "back and there",             { START + HOUR, START - 10 * YEAR, START + 3 * HOUR },                     START,            START + 3 * HOUR        },
    { "a clock that was wrong",     { START - 10 * YEAR, START - 10 * YEAR + HOUR, START + 3 * HOUR },         START - 10 * YEAR, START - 10 * YEAR + 2 * HOUR },
    { "back",                       { START + HOUR, START - 10 * YEAR, START - 10 * YEAR + HOUR },             START,            START + 3 * HOUR        },
    { "older than the server",      { START + HOUR, START + 10 * YEAR, START + 10 * YEAR + HOUR },             START - YEAR,     START + 3 * HOUR        },
    { "older, and the clock wrong", { START + HOUR, START + 10 * YEAR, START + 10 * YEAR + HOUR },             START + YEAR,     START + 10 * YEAR + HOUR },
    { "twice",                      { START + HOUR + YEAR, START + 2 * HOUR + 3 * YEAR, START + 3 * HOUR + 3 * YEAR }, START,    START + 3 * HOUR        },
};

static void a_message_is_as_old_as_it_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct steady_date d;
        steady_date_init(&d, START, 7 * HOUR);
        for (int n = 0; n < 3; n++)
            (void)steady_date_look(&d, cases[i].wall[n], (8 + n) * HOUR);
        if (steady_date_for(&d, cases[i].begin) != cases[i].date)
            fail_msg("%s: %lld s off", cases[i].what, (long long)((steady_date_for(&d, cases[i].begin) - cases[i].date) / NS_PER_S));
    }
}

static void very_many_jumps(void **state)
{
    struct steady_date d;

    (void)state;
    steady_date_init(&d, START, 0);
    for (int64_t n = 1; n <= 100; n++)
        assert_int_equal(steady_date_look(&d, START + n * YEAR, n * HOUR), YEAR - HOUR);
    assert_int_equal(steady_date_for(&d, START), START + 100 * HOUR);
    assert_int_equal(steady_date_for(&d, START + 99 * YEAR), START + 99 * YEAR + HOUR);
    assert_int_equal(steady_date_for(&d, START + 50 * YEAR), START + 100 * YEAR);     /* forgotten */
}

static void a_jump_is_said_once(void **state)
{
    struct steady_date d;

    (void)state;
    steady_date_init(&d, START, 0);
    assert_int_equal(steady_date_look(&d, START + HOUR, HOUR), 0);
    assert_int_equal(steady_date_look(&d, START + YEAR, HOUR), YEAR - HOUR);
    assert_int_equal(steady_date_look(&d, START + YEAR + HOUR, 2 * HOUR), 0);
    assert_int_equal(steady_date_look(&d, START, 2 * HOUR), -YEAR - HOUR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_as_old_as_it_is),
        cmocka_unit_test(very_many_jumps),
        cmocka_unit_test(a_jump_is_said_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
