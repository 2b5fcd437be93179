/*
 * base/url: what is a URL of an endpoint, and what only looks like one.
 */
#include "base/url.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

// clang-format off
static const struct { const char *text; bool ok; const char *host; unsigned port; bool tls, loopback; } cases[] = {
    { "https://user@host.example/x",        false, NULL, 0, false, false },      /* whose host is it? */
    { "https://good.example:443@evil.example/", false, NULL, 0, false, false },
    { "https://good.example\\@evil.example", false, NULL, 0, false, false },
    { "https://good.example#@evil.example", false, NULL, 0, false, false },
    { "https://host.example/x#y",           false, NULL, 0, false, false },
    { "https://host.example/x y",           false, NULL, 0, false, false },
    { "https://host.example/\r\nHost: x",   false, NULL, 0, false, false },
    { "https://h\xc3\xb6st.example/",       false, NULL, 0, false, false },
    { "https://%68ost.example/",            false, NULL, 0, false, false },
    { "http://127.1/",                      false, NULL, 0, false, false },      /* some read an address in it */
    { "http://0x7f000001/",                 false, NULL, 0, false, false },
    { "http://2130706433/",                 false, NULL, 0, false, false },
    { "http://0177.0.0.1/",                 false, NULL, 0, false, false },
    { "http://127.0.0.256/",                false, NULL, 0, false, false },
    { "http://127.0.0.1.2/",                false, NULL, 0, false, false },
    { "https://host.example./",             false, NULL, 0, false, false },
    { "https://.example/",                  false, NULL, 0, false, false },
    { "https://a..example/",                false, NULL, 0, false, false },
    { "https:///x",                         false, NULL, 0, false, false },
    { "https://",                           false, NULL, 0, false, false },
    { "",                                   false, NULL, 0, false, false },
    { "ftp://host.example/",                false, NULL, 0, false, false },
    { "file:///etc/passwd",                 false, NULL, 0, false, false },
    { "host.example/x",                     false, NULL, 0, false, false },
    { "https://host.example:0/",            false, NULL, 0, false, false },
    { "https://host.example:65536/",        false, NULL, 0, false, false },
    { "https://host.example:/",             false, NULL, 0, false, false },
    { "https://host.example:4x/",           false, NULL, 0, false, false },
    { "https://[::1/",                      false, NULL, 0, false, false },
    { "https://[::1]x/",                    false, NULL, 0, false, false },
    { "https://[fe80::1%25eth0]/",          false, NULL, 0, false, false },
    { "https://host.example",               true,  "host.example", 443,  true,  false },
    { "HTTPS://Host.Example/a/b?c=d&e=%20", true,  "Host.Example", 443,  true,  false },
    { "https://host.example?x",             true,  "host.example", 443,  true,  false },
    { "https://host.example:8443/",         true,  "host.example", 8443, true,  false },
    { "http://host.example/",               true,  "host.example", 80,   false, false },
    { "http://localhost:8080/x",            true,  "localhost",    8080, false, true  },
    { "http://localhost.evil.example/x",    true,  "localhost.evil.example", 80, false, false },
    { "http://127.8.9.10/",                 true,  "127.8.9.10",   80,   false, true  },
    { "http://10.0.0.1/",                   true,  "10.0.0.1",     80,   false, false },
    { "http://[::1]:81/",                   true,  "::1",          81,   false, true  },
    { "https://[2001:db8::1]/",             true,  "2001:db8::1",  443,  true,  false },
};
// clang-format on

static void parses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct url u = { .port = 7 };
        bool ok = url_parse(str_of(cases[i].text), &u);
        if (ok != cases[i].ok)
            fail_msg("%s: %d", cases[i].text, ok);
        if (!ok) {
            assert_int_equal(u.port, 7);
            continue;
        }
        if (!str_eq(u.host, str_of(cases[i].host)) || u.port != cases[i].port || u.tls != cases[i].tls || url_is_loopback(&u) != cases[i].loopback)
            fail_msg("%s: %.*s %u", cases[i].text, (int)u.host.n, u.host.p, u.port);
        assert_int_equal(url_is_private(&u), u.tls || cases[i].loopback);
    }
}

static void encodes(void **state)
{
    char bytes[64];
    struct buf b;

    (void)state;
    buf_init_fixed(&b, bytes, sizeof bytes);
    url_put_encoded(&b, (struct str){ "aZ09-._~ +&=%/\r\n\0\xff", 18 });
    assert_true(str_eq(buf_str(&b), STR("aZ09-._~%20%2B%26%3D%25%2F%0D%0A%00%FF")));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(parses), cmocka_unit_test(encodes) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
