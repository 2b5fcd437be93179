/*
 * The calendar: leap days, the ends of centuries and of the type, and every day there and back.
 */
#include "base/calendar.h"
#include "base/clock.h"
#include "base/str.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

static const struct { int64_t days; struct calendar_date date; } cases[] = {
    { 0,       { 1970, 1, 1 }   },
    { -1,      { 1969, 12, 31 } },
    { 59,      { 1970, 3, 1 }   },
    { 11016,   { 2000, 2, 29 }  },       /* a leap year, being one of 400 */
    { -25509,  { 1900, 2, 28 }  },       /* none, being one of 100 */
    { -25508,  { 1900, 3, 1 }   },
    { 106751,  { 2262, 4, 11 }  },       /* the last of int64_t's nanoseconds */
    { -719468, { 0, 3, 1 }      },
    { -719469, { 0, 2, 29 }     },
    { -865566, { -400, 2, 29 }  },
};

static void the_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct calendar_date d = calendar_date(cases[i].days);
        if (d.year != cases[i].date.year || d.month != cases[i].date.month || d.day != cases[i].date.day)
            fail_msg("day %lld is %lld-%d-%d", (long long)cases[i].days, (long long)d.year, d.month, d.day);
        assert_int_equal(calendar_days(cases[i].date), cases[i].days);
    }
}

/* 800 years of days, each the one after the one before. */
static void every_day_follows_the_one_before(void **state)
{
    struct calendar_date before = calendar_date(-146098);

    (void)state;
    for (int64_t days = -146097; days < 146097; days++) {
        struct calendar_date d = calendar_date(days);
        bool next_day = d.day == before.day + 1 && d.month == before.month && d.year == before.year;
        bool next_month = d.day == 1 && before.day == calendar_month_days(before.year, before.month) &&
                          (d.month == before.month + 1 ? d.year == before.year : d.month == 1 && before.month == 12 && d.year == before.year + 1);
        if (!next_day && !next_month)
            fail_msg("day %lld", (long long)days);
        assert_int_equal(calendar_days(d), days);
        before = d;
    }
}

static const struct { int64_t ns; bool milliseconds; const char *text; } times[] = {
    { 0,                                     false, "1970-01-01T00:00:00Z"     },
    { -1,                                    false, "1969-12-31T23:59:59Z"     },
    { -1,                                    true,  "1969-12-31T23:59:59.999Z" },
    { 999 * NS_PER_MS + 999999,              true,  "1970-01-01T00:00:00.999Z" },
    { INT64_MAX,                             true,  "2262-04-11T23:47:16.854Z" },
    { INT64_MIN,                             true,  "1677-09-21T00:12:43.145Z" },
};

static void times_are_written(void **state)
{
    char bytes[64];

    (void)state;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        struct buf out;
        buf_init_fixed(&out, bytes, sizeof bytes);
        calendar_put_iso(&out, times[i].ns, times[i].milliseconds);
        if (!str_eq(buf_str(&out), str_of(times[i].text)))
            fail_msg("%lld is %.*s, not %s", (long long)times[i].ns, (int)out.n, bytes, times[i].text);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table),
        cmocka_unit_test(every_day_follows_the_one_before),
        cmocka_unit_test(times_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
