/*
 * Names here: equal keys for what people call the same.
 */
#include "base/cleanup.h"
#include "mail/local_part.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_keys(void **state)
{
    // clang-format off
    static const struct { const char *local, *key; } rows[] = {
        { "",                         "" },
        { "Bob",                      "bob" },
        { "J. Doe",                   "j. doe" },
        { "\xff\xfe" "A",             "\xff\xfe" "a" },                /* no UTF-8 */
        { "j\xc3\xbcrgen",            "j\xc3\xbcrgen" },
        { "J\xc3\x9cRGEN",            "j\xc3\xbcrgen" },
        { "ju\xcc\x88rgen",           "j\xc3\xbcrgen" },               /* u and a diaeresis on it */
        { "JU\xcc\x88RGEN",           "j\xc3\xbcrgen" },
        { "stra\xc3\x9f" "e",         "stra\xc3\x9f" "e" },            /* not strasse: somebody else's name */
        { "\xef\xac\x81",             "\xef\xac\x81" },                /* the ligature fi: NFC, not NFKC */
        { "\xe7\x94\xb2\xe4\xb9\x99", "\xe7\x94\xb2\xe4\xb9\x99" },
        { "I",                        "i" },                           /* in Turkey too */
    };
    // clang-format on
    CLEANUP_BUF struct buf out;

    (void)state;
    buf_init(&out, 4096);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buf_clear(&out);
        local_part_put_key(&out, str_of(rows[i].local));
        if (!str_eq(buf_str(&out), str_of(rows[i].key)))
            fail_msg("%s: %.*s", rows[i].local, (int)out.n, out.p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_keys) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
