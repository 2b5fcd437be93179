/*
 * What is another protocol, and above all what is not.
 */
#include "smtp/foreign.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

// clang-format off
static const struct { const char *input, *name; } cases[] = {
    { "",                                   NULL   },
    { "\x16",                               NULL   },   /* not yet */
    { "\x16\x03\x01\x02",                   "TLS"  },
    { "GET / HTTP/1.1",                     "HTTP" },
    { "POST /x HTTP/1.1\r\nHost: mx:25",    "HTTP" },
    { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",   "HTTP" },
    { "CONNECT mx.example:25 HTTP/1.0\r\n", "HTTP" },
    { "SSH-2.0-x\r\n",                      "SSH"  },
    { "\x05\x01",                           "SOCKS" },
    { "GETTER\r\n",                         NULL   },
    { "get / HTTP/1.1\r\n",                 NULL   },   /* methods are upper case; 500 is good enough for this one */
    { "HELO a.example\r\n",                 NULL   },
    { "HELP GET /\r\n",                     NULL   },
    { "PIPELINE\r\n",                       NULL   },
    { "\r\n",                               NULL   },
    { "\xc3\xa9\r\n",                       NULL   },
};
// clang-format on

static void others_are_known_by_their_beginning(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *name = foreign_protocol(str_of(cases[i].input));
        if (cases[i].name == NULL)
            assert_null(name);
        else
            assert_string_equal(name, cases[i].name);
    }
    assert_non_null(foreign_protocol((struct str){ "\0\0\0\x54", 4 }));
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test(others_are_known_by_their_beginning) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
