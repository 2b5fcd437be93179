/*
 * admin/cli: numbers with units, and how they are shown.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin/cli.h"

static const struct {
    const char *text;
    int64_t     ns;                      /* -1: not a duration */
} durations[] = {
    { "",                      -1              },
    { "s",                     -1              },
    { "-5s",                   -1              },
    { "5 s",                   -1              },
    { "5x",                    -1              },
    { "99999999999999999999s", -1              },
    { "9999999999999d",        -1              },   /* overflows, not wraps */
    { "0",                     0               },
    { "7",                     7 * NS_PER_S    },
    { "10us",                  10 * NS_PER_US  },
    { "250ms",                 250 * NS_PER_MS },
    { "5M",                    300 * NS_PER_S  },
    { "2h",                    7200 * NS_PER_S },
    { "5d",                    432000 * NS_PER_S },
};

static const struct {
    const char *text;
    int64_t     bytes;
} sizes[] = {
    { "", -1 }, { "KiB", -1 }, { "1.5MiB", -1 }, { "18446744073709551615KiB", -1 }, { "0", 0 }, { "512", 512 }, { "4KiB", 4096 },
    { "4k", 4096 }, { "25MiB", 25 * 1024 * 1024 }, { "1G", 1024 * 1024 * 1024 },
};

static const struct {
    int64_t     ns;
    const char *shown;
} shown_durations[] = {
    { 0, "0ms" }, { 3 * NS_PER_MS, "3ms" }, { NS_PER_S, "1s" }, { 61 * NS_PER_S, "1m 1s" }, { 3600 * NS_PER_S, "1h" },
    { 90061 * NS_PER_S, "1d 1h" }, { -2 * NS_PER_S, "-2s" },
};

static void durations_have_units(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
        int64_t ns = -1;
        assert_int_equal(cli_duration(durations[i].text, &ns), durations[i].ns >= 0);
        assert_int_equal(ns, durations[i].ns);
    }
}

static void sizes_have_units(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t bytes = (uint64_t)-1;
        assert_int_equal(cli_size(sizes[i].text, &bytes), sizes[i].bytes >= 0);
        assert_int_equal((int64_t)bytes, sizes[i].bytes);
    }
}

static void durations_are_shown_in_two_units(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(shown_durations) / sizeof(shown_durations[0]); i++) {
        char text[64];
        struct buf b;
        buf_init_fixed(&b, text, sizeof(text));
        cli_put_duration(&b, shown_durations[i].ns);
        assert_true(str_eq(buf_str(&b), str_of(shown_durations[i].shown)));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_have_units),
        cmocka_unit_test(sizes_have_units),
        cmocka_unit_test(durations_are_shown_in_two_units),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
