/*
 * Domains: what is one, and the one form of it.
 */
#include "mail/domain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define LABEL63 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk"

static struct arena a;

static int setup(void **state)
{
    (void)state;
    arena_init(&a, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_reset(&a);
    return 0;
}

static void assert_str(struct str s, const char *expected)
{
    assert_non_null(s.p);
    assert_int_equal(s.n, strlen(expected));
    assert_memory_equal(s.p, expected, s.n);
}

static void test_to_ascii(void **state)
{
    // clang-format off
    static const struct { const char *in, *out; } cases[] = {
        { "",                           NULL },
        { ".",                          NULL },
        { "..",                         NULL },
        { "a..b",                       NULL },
        { ".a",                         NULL },
        { "a.b..",                      NULL },
        { "192.0.2.1",                  NULL },      /* an address wants its brackets */
        { "123",                        NULL },
        { "-a.example",                 NULL },
        { "a-.example",                 NULL },
        { "a_b.example",                NULL },
        { "a b.example",                NULL },
        { "a\n.example",                NULL },
        { "[192.0.2.1]",                NULL },
        { LABEL63 "x.example",          NULL },
        { "\xff.example",               NULL },
        { "b\xc3.example",              NULL },
        { "a\xef\xbc\xa0" "b.example",  NULL },      /* fullwidth @ maps to @ */
        { "xn--ls8h.example",           "xn--ls8h.example" },      /* an emoji: IDNA2008 says no, DNS says yes */
        { LABEL63 ".example",           LABEL63 ".example" },
        { "Example",                    "example" },
        { "eXaMple.COM.",               "example.com" },
        { "1.2.3.4a",                   "1.2.3.4a" },
        { "a--b.example",               "a--b.example" },
        { "b\xc3\xbc" "cher.example",   "xn--bcher-kva.example" },
        { "B\xc3\x9c" "CHER.Example.",  "xn--bcher-kva.example" },
        { "fa\xc3\x9f.example",         "xn--fa-hia.example" },      /* non-transitional: the sharp s stays one */
        { "\xe4\xbe\x8b\xe3\x80\x82\xe4\xbe\x8b", "xn--fsq.xn--fsq" },      /* ideographic full stop */
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str out = STR("untouched");
        bool ok = domain_to_ascii(&a, str_of(cases[i].in), &out);
        if (ok != (cases[i].out != NULL))
            fail_msg("%s", cases[i].in);
        assert_str(out, ok ? cases[i].out : "untouched");
    }
    struct str out;
    assert_false(domain_to_ascii(&a, (struct str){ "a\0b.example", 11 }, &out));
}

static void test_length(void **state)
{
    char name[256];

    (void)state;
    for (size_t i = 0; i < sizeof name; i++)
        name[i] = i % 2 ? '.' : 'a';
    assert_true(domain_valid((struct str){ name, 253 }));
    assert_false(domain_valid((struct str){ name, 255 }));
}

static void test_dns_names(void **state)
{
    (void)state;
    assert_true(domain_valid_dns(STR("_25._tcp.mx.example")));
    assert_true(domain_valid_dns(STR("_dmarc.example")));
    assert_false(domain_valid_dns(STR("a b.example")));
    assert_false(domain_valid_dns(STR("")));
}

static void test_literals(void **state)
{
    // clang-format off
    static const struct { const char *in, *out; } cases[] = {
        { "[]",                        NULL },
        { "[",                         NULL },
        { "192.0.2.1",                 NULL },
        { "[192.0.2]",                 NULL },
        { "[192.0.2.01]",              NULL },      /* octal to some */
        { "[192.0.2.256]",             NULL },
        { "[ 192.0.2.1]",              NULL },
        { "[2001:db8::1]",             NULL },      /* no tag */
        { "[IPv6:192.0.2.1]",          NULL },
        { "[IPv6:fe80::1%eth0]",       NULL },
        { "[IPv6:]",                   NULL },
        { "[tag:whatever]",            NULL },
        { "[192.0.2.1]",               "[192.0.2.1]" },
        { "[ipv6:2001:DB8:0:0::1]",    "[IPv6:2001:db8::1]" },
        { "[IPv6:::ffff:192.0.2.1]",   "[IPv6:::ffff:192.0.2.1]" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str out;
        bool ok = domain_parse_literal(&a, str_of(cases[i].in), &out);
        if (ok != (cases[i].out != NULL))
            fail_msg("%s", cases[i].in);
        if (ok)
            assert_str(out, cases[i].out);
    }
    assert_str(domain_literal_ip(STR("[IPv6:2001:db8::1]")), "2001:db8::1");
    assert_str(domain_literal_ip(STR("[192.0.2.1]")), "192.0.2.1");
    assert_str(domain_literal_ip(STR("a.example")), "");
    assert_str(domain_literal_of_ip(&a, STR("2001:DB8::1")), "[IPv6:2001:db8::1]");
    assert_null(domain_literal_of_ip(&a, STR("nonsense")).p);
}

static void test_organizational(void **state)
{
    // clang-format off
    static const struct { const char *name, *org; bool registered; } cases[] = {
        { "com",                "com",           false },
        { "co.uk",              "co.uk",         false },
        { "a.b.example.com",    "example.com",   true },
        { "example.com",        "example.com",   true },
        { "www.example.co.uk",  "example.co.uk", true },
        { "_dmarc.example.com", "example.com",   true },
        { "x.y.unheardof",      "y.unheardof",   true },      /* the default rule "*" */
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_str(domain_organizational(str_of(cases[i].name)), cases[i].org);
        assert_int_equal(domain_registered(str_of(cases[i].name)), cases[i].registered);
    }
}

static void test_in(void **state)
{
    (void)state;
    assert_true(domain_in(STR("a.B.example"), STR("b.example")));
    assert_true(domain_in(STR("b.example"), STR("b.example")));
    assert_false(domain_in(STR("ab.example"), STR("b.example")));
    assert_false(domain_in(STR("example"), STR("b.example")));
    assert_false(domain_in(STR("example"), STR("")));
}

static void test_to_utf8(void **state)
{
    (void)state;
    assert_str(domain_to_utf8(&a, STR("xn--bcher-kva.example")), "b\xc3\xbc\x63her.example");
    assert_str(domain_to_utf8(&a, STR("plain.example")), "plain.example");
    assert_str(domain_to_utf8(&a, STR("xn--\x01")), "xn--\x01");
}

static void test_full_arena(void **state)
{
    struct arena small;
    struct str out = STR("untouched");

    (void)state;
    arena_init(&small, 4);
    assert_false(domain_to_ascii(&small, STR("a-long-name.example"), &out));
    assert_true(arena_failed(&small));
    assert_str(out, "untouched");
    arena_reset(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_to_ascii), cmocka_unit_test(test_length),         cmocka_unit_test(test_dns_names),
        cmocka_unit_test(test_literals), cmocka_unit_test(test_organizational), cmocka_unit_test(test_in),
        cmocka_unit_test(test_to_utf8),  cmocka_unit_test(test_full_arena),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
