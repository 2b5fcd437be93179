/*
 * UTF-8.
 */
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_broken(void **state)
{
    // clang-format off
    static const char *const broken[] = {
        "\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xe2\x82", "\xed\xa0\x80", "\xed\xbf\xbf",
        "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xfe",
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        assert_false(utf8_valid(str_of(broken[i])));
}

static void test_ends_of_each_length(void **state)
{
    // clang-format off
    static const struct { struct str s; size_t n; uint32_t c; } cases[] = {
        { { NULL, 0 },               0, 0        },
        { { "\xf8\x88\x80\x80", 4 }, 0, 0        },
        { { "\0x", 2 },              1, 0        },
        { { "\x7f", 1 },             1, 0x7f     },
        { { "\xc2\x80", 2 },         2, 0x80     },
        { { "\xdf\xbf", 2 },         2, 0x7ff    },
        { { "\xef\xbf\xbf", 3 },     3, 0xffff   },
        { { "\xf4\x8f\xbf\xbf", 4 }, 4, 0x10ffff },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t c = 0;
        assert_int_equal(utf8_next(cases[i].s, &c), cases[i].n);
        assert_int_equal(c, cases[i].c);
    }
}

static void test_every_code_point(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        char memory[4];
        struct buf out;
        uint32_t back = 0;
        bool surrogate = c >= 0xd800 && c <= 0xdfff;
        buf_init_fixed(&out, memory, sizeof memory);
        utf8_put(&out, c);
        assert_true(utf8_next(buf_str(&out), &back) == (surrogate ? 0 : out.n));
        assert_true(surrogate || back == c);
    }
}

static void test_clean(void **state)
{
    char memory[64];
    struct buf out;

    (void)state;
    buf_init_fixed(&out, memory, sizeof memory);
    utf8_put_clean(&out, STR("a\r\n\tb\x7f\xc2\x85\xe2\x80\xa8\xff"
                             "c\xc3\xbc\0"));
    assert_true(str_eq(buf_str(&out), STR("a   b   \xef\xbf\xbd"
                                          "c\xc3\xbc ")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_ends_of_each_length),
        cmocka_unit_test(test_every_code_point),
        cmocka_unit_test(test_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
