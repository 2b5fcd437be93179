/*
 * Dates.
 */
#include "mail/date.h"
#include "base/calendar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define S INT64_C(1000000000)

static void test_parse(void **state)
{
    // clang-format off
    static const struct { const char *in; bool ok; int64_t s; int offset; } cases[] = {
        { "",                                               false },
        { "Tue",                                            false },
        { "Tue, 1 Jul",                                     false },
        { "Tue, 1 Jul 2003",                                false },
        { "Tue, 32 Jul 2003 10:52:37 +0200",                false },
        { "Tue, 0 Jul 2003 10:52:37 +0200",                 false },
        { "29 Feb 2003 10:52:37 +0000",                     false },
        { "29 Feb 1900 10:52:37 +0000",                     false },
        { "1 Jul 2003 24:00:00 +0000",                      false },
        { "1 Jul 2003 10:60:00 +0000",                      false },
        { "1 Jul 2003 10:52:61 +0000",                      false },
        { "1 Jul 2003 10:52:37 +02000",                     false },
        { "1 Jul 2003 10:52:37 +2400",                      false },
        { "1 Jul 2003 10:52:37 +0060",                      false },
        { "1 Jul 2003 10:52:37 +0200 x",                    false },
        { "1 Jul 20030 10:52:37 +0200",                     false },
        { "1 Jul 1899 10:52:37 +0200",                      false },
        { "1 Jul 2263 10:52:37 +0200",                      false },
        { "31 Dec 2262 10:52:37 +0200",                     false },
        { "1 Xyz 2003 10:52:37 +0200",                      false },
        { "Tue, 1 Jul 2003 10:52:37 +0200",                 true, 1057049557, 120 },
        { "Mon, 1 Jul 2003 10:52:37 +0200",                 true, 1057049557, 120 },      /* it was a Tuesday */
        { "1 Jul 2003 10:52:37 +0200 (Middle (very) European \\) Summer",  true, 1057049557, 120 },
        { "  Tue ,\r\n (c) 1 (c) Jul(c)2003\t10 : 52 : 37\r\n +0200 (CEST)", true, 1057049557, 120 },
        { "Tuesday, 01-Jul-03 08:52:37 GMT",                true, 1057049557, 0 },
        { "1 jul 03 08:52:37 ut",                           true, 1057049557, 0 },
        { "1 July 2003 08:52:37 Z",                         true, 1057049557, 0 },
        { "1 Jul 103 08:52:37 A",                           true, 1057049557, 0 },      /* military: means nothing */
        { "1 Jul 2003 04:52:37 EDT",                        true, 1057049557, -240 },
        { "1 Jul 2003 08:52:37 XYZZY",                      true, 1057049557, 0 },
        { "1 Jul 2003 08:52:37",                            true, 1057049557, 0 },
        { "1 Jul 2003 08:52 +0000",                         true, 1057049520, 0 },
        { "1 Jan 49 00:00:00 +0000",                        true, 2493072000, 0 },
        { "1 Jan 50 00:00:00 +0000",                        true, -631152000, 0 },
        { "31 Dec 2016 23:59:60 +0000",                     true, 1483228799, 0 },      /* a leap second */
        { "29 Feb 2000 00:00:00 -0000",                     true, 951782400, 0 },
        { "1 Jan 1970 00:00:00 -0130",                      true, 5400, -90 },
        { "1 Jan 1900 00:00:00 +0000",                      true, -2208988800, 0 },
        { "11 Apr 2262 23:47:16 +0000",                     true, 9223372036, 0 },      /* the last second there is */
        { "11 Apr 2262 23:47:17 +0000",                     false },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t ns = 77;
        int offset = 77;
        bool ok = date_parse(str_of(cases[i].in), &ns, &offset);
        if (ok != cases[i].ok || ns != (ok ? cases[i].s * S : 77) || offset != (ok ? cases[i].offset : 77))
            fail_msg("case %zu: %s: %d %lld %d", i, cases[i].in, ok, (long long)ns, offset);
    }
}

static void test_put(void **state)
{
    // clang-format off
    static const struct { int64_t ns; int offset; const char *text; } cases[] = {
        { 0,                     0,     "Thu, 1 Jan 1970 00:00:00 +0000" },
        { -1,                    0,     "Wed, 31 Dec 1969 23:59:59 +0000" },
        { 0,                     -90,   "Wed, 31 Dec 1969 22:30:00 -0130" },
        { 1057049557 * S,        120,   "Tue, 1 Jul 2003 10:52:37 +0200" },
        { 951782400 * S,         0,     "Tue, 29 Feb 2000 00:00:00 +0000" },
        { 951868800 * S - 1,     1439,  "Wed, 1 Mar 2000 23:58:59 +2359" },
        { INT64_MAX,             0,     "Fri, 11 Apr 2262 23:47:16 +0000" },
        { INT64_MIN,             0,     "Tue, 21 Sep 1677 00:12:43 +0000" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char memory[64];
        struct buf out;
        buf_init_fixed(&out, memory, sizeof memory);
        date_put(&out, cases[i].ns, cases[i].offset);
        buf_put_char(&out, '\0');
        assert_string_equal(memory, cases[i].text);
    }
}

static void test_iso(void **state)
{
    // clang-format off
    static const struct { const char *in; bool ok; int64_t ns; } cases[] = {
        { "",                               false },
        { "2003-07-01",                     false },
        { "2003-07-01T08:52:37",            false },
        { "2003-07-01T08:52:37.Z",          false },
        { "2003-7-01T08:52:37Z",            false },
        { "2003-07-01T08:52:37+0200",       false },
        { "2003-07-01T08:52:37+24:00",      false },
        { "2003-02-29T08:52:37Z",           false },
        { "2003-07-01T08:52:37Zx",          false },
        { "1900-01-01T00:00:00+01:00",      false },
        { "2003-07-01T08:52:37Z",           true, 1057049557 * S },
        { "2003-07-01t10:52:37.123+02:00",  true, 1057049557 * S + 123000000 },
        { "2003-07-01 08:52:37.1234567899z", true, 1057049557 * S + 123456789 },
        { "1969-12-31T23:59:59.5Z",         true, -S / 2 },
    };
    // clang-format on
    char memory[64];
    struct buf out;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t ns = 77;
        bool ok = date_parse_iso(str_of(cases[i].in), &ns);
        if (ok != cases[i].ok || ns != (ok ? cases[i].ns : 77))
            fail_msg("case %zu: %s: %lld", i, cases[i].in, (long long)ns);
    }
    buf_init_fixed(&out, memory, sizeof memory);
    calendar_put_iso(&out, -S / 2, true);
    buf_put_char(&out, ' ');
    calendar_put_iso(&out, 1057049557 * S + 999, false);
    buf_put_char(&out, '\0');
    assert_string_equal(memory, "1969-12-31T23:59:59.500Z 2003-07-01T08:52:37Z");
}

/* Every 13th day or so of three hundred years, and back. */
static void test_round_trip(void **state)
{
    (void)state;
    for (int64_t s = INT64_C(-2208988800); s < INT64_C(9223372036); s += 1123457) {
        char memory[64];
        struct buf out;
        int64_t ns;
        int offset = (int)(s % 1439), back;
        if (offset < 0 && s < INT64_C(-2208900000))
            offset = 0;
        buf_init_fixed(&out, memory, sizeof memory);
        date_put(&out, s * S, offset);
        assert_true(date_parse(buf_str(&out), &ns, &back));
        assert_true(ns == s * S && back == offset);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_put),
        cmocka_unit_test(test_iso),
        cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
