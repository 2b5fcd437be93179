/*
 * Addresses: the strange ones first.
 */
#include "mail/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define L50 "llllllllllllllllllllllllllllllllllllllllllllllllll"

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

static void test_mailboxes(void **state)
{
    // clang-format off
    static const struct { const char *in; unsigned options; const char *local, *domain, *text; } cases[] = {
        { "",                              0,            NULL },
        { "a",                             0,            NULL },
        { "@b.example",                    0,            NULL },
        { "a@",                            0,            NULL },
        { "a@b@c.example",                 0,            NULL },
        { ".a@b.example",                  0,            NULL },
        { "a.@b.example",                  0,            NULL },
        { "a..b@b.example",                0,            NULL },
        { "a b@b.example",                 0,            NULL },
        { " a@b.example",                  0,            NULL },
        { "a@b.example ",                  0,            NULL },
        { "a@b.example\r",                 0,            NULL },
        { "a@b.example>",                  0,            NULL },
        { "a(c)@b.example",                0,            NULL },
        { "\"a@b.example",                 0,            NULL },
        { "\"a\"b@b.example",              0,            NULL },
        { "\"a\x01\"@b.example",           0,            NULL },
        { "\"a\\\n\"@b.example",           0,            NULL },      /* a quoted pair smuggles nothing in */
        { "\"a\\",                         0,            NULL },
        { A64 "a@b.example",               0,            NULL },
        { "\"" A64 "a\"@b.example",        0,            NULL },
        { "a@192.0.2.1",                   0,            NULL },
        { "a@[192.0.2.1",                  0,            NULL },
        { "a@[192.0.2.999]",               0,            NULL },
        { "a@[2001:db8::1]",               0,            NULL },
        { "j\xc3\xbcrgen@b.example",       0,            NULL },
        { "j\xc3\xbcrgen@b.example",       ADDRESS_IDN,  NULL },
        { "j\xc3@b.example",               ADDRESS_UTF8, NULL },
        { "j\xc2\x85@b.example",           ADDRESS_UTF8, NULL },      /* NEL is a control */
        { "a@b\xc3\xbc" "cher.example",    0,            NULL },
        { "a@b_c.example",                 0,            NULL },

        { "\"\"@b.example",                0,            "",          "b.example",             "\"\"@b.example" },
        { "\"a b\"@b.example",             0,            "a b",       "b.example",             "\"a b\"@b.example" },
        { "\"a\\b\"@b.example",            0,            "ab",        "b.example",             "ab@b.example" },
        { "\"a\\\"\\\\\"@b.example",       0,            "a\"\\",     "b.example",             "\"a\\\"\\\\\"@b.example" },
        { "\"plain\"@b.example",           0,            "plain",     "b.example",             "plain@b.example" },
        { "\".a\"@b.example",              0,            ".a",        "b.example",             "\".a\"@b.example" },
        { "\"a@b\"@b.example",             0,            "a@b",       "b.example",             "\"a@b\"@b.example" },
        { "\"<>\"@b.example",              0,            "<>",        "b.example",             "\"<>\"@b.example" },
        { "!#$%&'*+-/=?^_`{|}~@b.example", 0,            "!#$%&'*+-/=?^_`{|}~", "b.example",   "!#$%&'*+-/=?^_`{|}~@b.example" },
        { A64 "@b.example",                0,            A64,         "b.example",             A64 "@b.example" },
        { "Bob@B.Example.",                0,            "Bob",       "b.example",             "Bob@b.example" },
        { "a@localhost",                   0,            "a",         "localhost",             "a@localhost" },
        { "a@[192.0.2.1]",                 0,            "a",         "[192.0.2.1]",           "a@[192.0.2.1]" },
        { "a@[ipv6:2001:DB8::1]",          0,            "a",         "[IPv6:2001:db8::1]",    "a@[IPv6:2001:db8::1]" },
        { "a@b\xc3\xbc" "cher.example",    ADDRESS_IDN,  "a",         "xn--bcher-kva.example", "a@xn--bcher-kva.example" },
        { "j\xc3\xbcrgen@b.example",       ADDRESS_UTF8, "j\xc3\xbcrgen", "b.example",         "j\xc3\xbcrgen@b.example" },
        { "\"j\xc3\xbc \"@b.example",      ADDRESS_UTF8, "j\xc3\xbc ", "b.example",            "\"j\xc3\xbc \"@b.example" },
        { "bob",                           ADDRESS_BARE, "bob",       "",                      "bob" },
        { "\"a b\"",                       ADDRESS_BARE, "a b",       "",                      "\"a b\"" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct address addr = { .local = STR("untouched") }, again;
        bool ok = address_parse_with(&a, str_of(cases[i].in), cases[i].options, &addr);
        if (ok != (cases[i].local != NULL))
            fail_msg("case %zu: %s", i, cases[i].in);
        assert_str(addr.local, ok ? cases[i].local : "untouched");
        if (!ok)
            continue;
        assert_str(addr.domain, cases[i].domain);
        assert_str(address_text(&a, &addr), cases[i].text);
        assert_int_equal(addr.quoted, cases[i].text[0] == '"');
        assert_true(address_parse_with(&a, address_text(&a, &addr), cases[i].options, &again));
        assert_true(address_eq(&addr, &again));
        assert_true(address_of_parts(addr.local, addr.domain, &again));
        assert_true(again.quoted == addr.quoted && again.utf8 == addr.utf8);
    }
    assert_false(arena_failed(&a));
}

static void test_paths(void **state)
{
    enum { N = ADDRESS_NULL, P = ADDRESS_POSTMASTER };
    // clang-format off
    static const struct { const char *in; unsigned options; const char *text; size_t consumed; } cases[] = {
        { "",                                  N | P, NULL },
        { "<",                                 N | P, NULL },
        { "a@b.example",                       N | P, NULL },      /* no brackets */
        { "<a@b.example",                      N | P, NULL },
        { "<<a@b.example>>",                   N | P, NULL },
        { "< a@b.example>",                    N | P, NULL },
        { "<a@b.example >",                    N | P, NULL },
        { "<>",                                P,     NULL },
        { "<postmaster>",                      N,     NULL },
        { "<bob>",                             N | P, NULL },
        { "<@a.example:>",                     N | P, NULL },      /* a route to nobody */
        { "<@a.example>",                      N | P, NULL },
        { "<@a.example,b@c.example>",          N | P, NULL },
        { "<@:a@b.example>",                   N | P, NULL },
        { "<" A64 "@" L50 "." L50 "." L50 "." L50 ".e>", 0, NULL },
        { "<>",                                N,     "",                2 },
        { "<> SIZE=1",                         N,     "",                2 },
        { "<PostMaster>",                      P,     "PostMaster",      12 },
        { "<\"postmaster\">",                  P,     "postmaster",      14 },
        { "<a@b.example>x",                    0,     "a@b.example",     13 },
        { "<\"a> b\"@b.example>",              0,     "\"a> b\"@b.example", 18 },
        { "<@a.example:b@c.example>",          0,     "b@c.example",     24 },
        { "<@a.example,@[IPv6:::1],@d.e:b@c.example>", 0, "b@c.example", 41 },
        { "<a@[IPv6:::1]>",                    0,     "a@[IPv6:::1]",    14 },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct address addr;
        size_t consumed = 999;
        bool ok = address_parse_path(&a, str_of(cases[i].in), cases[i].options, &addr, &consumed);
        if (ok != (cases[i].text != NULL))
            fail_msg("case %zu: %s", i, cases[i].in);
        assert_int_equal(consumed, ok ? cases[i].consumed : 999);
        if (ok)
            assert_str(address_text(&a, &addr), cases[i].text);
    }
}

static void test_equality(void **state)
{
    // clang-format off
    static const struct { const char *one, *other; bool equal; } cases[] = {
        { "Bob@b.example",        "bob@b.example",         false },      /* case of a local part is the receiver's business */
        { "POSTMASTER@b.example", "postmaster@B.example",  true },
        { "postmaster",           "PostMaster",            true },
        { "postmaster",           "postmaster@b.example",  false },
        { "\"bob\"@b.example",    "bob@B.EXAMPLE",         true },
        { "\"b\\ob\"@b.example",  "bob@b.example",         true },
        { "a@[IPv6:2001:DB8::1]", "a@[ipv6:2001:db8:0::1]", true },
        { "a@b.example",          "a@c.example",           false },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct address one, other;
        assert_true(address_parse_with(&a, str_of(cases[i].one), ADDRESS_BARE, &one));
        assert_true(address_parse_with(&a, str_of(cases[i].other), ADDRESS_BARE, &other));
        assert_int_equal(address_eq(&one, &other), cases[i].equal);
        assert_int_equal(str_eq(address_key(&a, &one), address_key(&a, &other)), cases[i].equal);
    }
}

static void test_parts(void **state)
{
    struct address addr;

    (void)state;
    assert_false(address_of_parts(STR("a\r\nb"), STR("b.example"), &addr));
    assert_false(address_of_parts(STR("a"), STR("B.example"), &addr));
    assert_false(address_of_parts(STR("a"), STR("[IPv6:2001:DB8::1]"), &addr));
    assert_false(address_of_parts(STR("\xc3"), STR("b.example"), &addr));
    assert_false(address_of_parts(STR("a"), STR("b>.example"), &addr));
    assert_false(address_of_parts(STR(A64 "a"), STR("b.example"), &addr));
    assert_true(address_of_parts(STR(""), STR(""), &addr));
    assert_true(address_is_null(&addr) && !addr.quoted);
    assert_true(address_of_parts(STR("a b"), STR("[IPv6:2001:db8::1]"), &addr));
    assert_true(addr.quoted);
}

static void test_full_arena(void **state)
{
    struct arena small;
    struct address addr;

    (void)state;
    arena_init(&small, 8);
    assert_false(address_parse(&small, STR("somebody@some-long-domain.example"), &addr));
    assert_true(arena_failed(&small));
    arena_reset(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mailboxes), cmocka_unit_test(test_paths),      cmocka_unit_test(test_equality),
        cmocka_unit_test(test_parts),     cmocka_unit_test(test_full_arena),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
