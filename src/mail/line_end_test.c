/*
 * CRLF becomes LF and nothing else changes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "mail/line_end.h"
#include <string.h>

static const struct {
    struct str in, out;
} cases[] = {
    { STR(""), STR("") },
    { STR("\r"), STR("\r") },
    { STR("\n"), STR("\n") },
    { STR("\r\n"), STR("\n") },
    { STR("\n\r"), STR("\n\r") },
    { STR("a\rb\nc\r\n"), STR("a\rb\nc\n") },    /* alone, inside a line */
    { STR("a\r\r\nb"), STR("a\r\nb") },          /* one CR belongs to the line's end, the other to the line */
    { STR("\r\n\r\n\r\n"), STR("\n\n\n") },
    { STR("\r\r\r"), STR("\r\r\r") },
    { STR("one\r\n.\r\n..two\r\nlast"), STR("one\n.\n..two\nlast") },
    { STR("a\0\r\n\0b\r\n"), STR("a\0\n\0b\n") },
    { STR("ends in CR\r\n\r"), STR("ends in CR\n\r") },
};

static void converts(void **state)
{
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memcpy(text, cases[i].in.p, cases[i].in.n);
        struct str out = { text, line_end_to_lf(text, cases[i].in.n) };
        if (!str_eq(out, cases[i].out))
            fail_msg("case %zu: %" STR_FMT, i, STR_ARG(out));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test(converts) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
