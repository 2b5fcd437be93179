/*
 * mail/field_watch: what it sees of headers, however they are cut in pieces.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mail/field_watch.h"

static const struct {
    const char *header;
    unsigned    count;
    bool        no;
} cases[] = {
    { "",                                                     0, false },
    { "TLS-Required: No\r\n",                                 1, true  },
    { "tls-required:no\r\n\r\n",                              1, true  },
    { "TLS-Required \t: No\r\n",                              1, true  },   /* RFC 5322, 4.5.8 */
    { "TLS-Required:\r\n No\r\n",                             1, true  },
    { "TLS-Required:\r\n \r\n\tNo \r\nTo: x\r\n",             1, true  },
    { "From: a\r\nTLS-Required: No",                          1, true  },
    { "TLS-Required: No\r\nTLS-Required: No\r\n",             2, false },   /* RFC 8689, 3: it must not stand there twice */
    { "TLS-Required: Yes\r\nTLS-Required: No\r\n",            2, false },
    { "TLS-Required: N o\r\n",                                1, false },
    { "TLS-Required: N\r\n o\r\n",                            1, false },
    { "TLS-Required: No\r\n way\r\n",                         1, false },
    { "TLS-Required: Nobody\r\n",                             1, false },
    { "TLS-Required: Nononononononononononononono\r\n",       1, false },
    { "TLS-Required:\r\n",                                    1, false },
    { "TLS-Required:\r\nNo: x\r\n",                           1, false },
    { "TLS-Required No\r\n",                                  0, false },
    { "TLS-Required x: No\r\n",                               0, false },
    { "TLS-Require: No\r\n",                                  0, false },
    { "TLS-Requiredd: No\r\n",                                0, false },
    { "X-TLS-Required: No\r\n",                               0, false },
    { " TLS-Required: No\r\n",                                0, false },
    { "Subject: x\r\n TLS-Required: No\r\n",                  0, false },   /* a fold of another field */
    { "TLS-Required\r\n: No\r\n",                             0, false },
    { "TLS-Required: No\nX: y\r\n",                           1, true  },   /* where bare LFs are taken */
};

static void the_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str header = str_of(cases[i].header);
        for (size_t at = 0; at <= header.n; at++) {
            struct field_watch w = { .name = "tls-required" };
            field_watch(&w, str_head(header, at));
            field_watch(&w, str_from(header, at));
            if (w.count != cases[i].count || field_watch_is(&w, STR("No")) != cases[i].no)
                fail_msg("%s cut at %zu: %u, %d", cases[i].header, at, w.count, field_watch_is(&w, STR("No")));
        }
    }
}

static void values(void **state)
{
    struct str header = STR("To: x\r\nX: a\r\nTo:\r\n y\r\n\tz\r\nTo:\r\nToo: u\r\nTO : v");
    (void)state;
    for (size_t at = 0; at <= header.n; at++) {
        char memory[32];
        struct buf all;
        buf_init_fixed(&all, memory, sizeof memory);
        struct field_watch w = { .name = "to", .values = &all };
        field_watch(&w, str_head(header, at));
        field_watch(&w, str_from(header, at));
        if (!str_eq(buf_str(&all), STR("\n x\n y\tz\n\n v")))
            fail_msg("cut at %zu: %.*s", at, STR_ARG(buf_str(&all)));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test(the_table), cmocka_unit_test(values) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
