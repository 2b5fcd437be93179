/*
 * Headers: fields, address lists, and writing that nothing breaks out of.
 */
#include "base/cleanup.h"
#include "mail/fold.h"
#include "mail/header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct arena a;

static int setup(void **state)
{
    (void)state;
    arena_init(&a, 16 << 20);
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
    if (s.n != strlen(expected) || !str_eq(s, str_of(expected)))
        fail_msg("got \"%" STR_FMT "\", not \"%s\"", STR_ARG(s), expected);
}

static void test_fields(void **state)
{
    /* Each field as name=value; malformed ones as !value; then the offset of the body. */
    // clang-format off
    static const struct { const char *message, *fields; size_t body; } cases[] = {
        { "",                                       "",                          0 },
        { "\r\n",                                   "",                          2 },
        { "\r\nSubject: body\r\n",                  "",                          2 },
        { "no header at all",                       "!no header at all|",        16 },
        { "no header at all\r\n",                   "!no header at all|",        18 },
        { "no header\r\n\r\nA: b",                  "!no header|",               13 },
        { ": x\r\n",                                "!: x|",                     5 },
        { " x: y\r\n z\r\nA: b\r\n",                "! x: y\r\n z|A= b|",        17 },      /* a continuation of nothing */
        { "From me\r\nA: b\r\n",                    "!From me|A= b|",            15 },
        { "A b: c\r\nA\x80: c\r\nD: e\r\n",         "!A b: c|!A\x80: c|D= e|",   21 },
        { "Subject : x\r\n",                        "Subject= x|",               13 },      /* obsolete, and a field */
        { "A:\r\n\r\n",                             "A=|",                       6 },
        { "A: b",                                   "A= b|",                     4 },
        { "A: b\r\n c\r\n\td\r\nE:f\r\n\r\nx",      "A= b\r\n c\r\n\td|E=f|",    21 },
        { "A: b\r\n \r\n\r\n",                      "A= b\r\n |",                11 },
        { "A: b\nC: d\r\n\r\n",                     "A= b\nC: d|",               13 },      /* a bare LF ends no line */
        { "A: b\r\r\n\r\n",                         "A= b\r|",                   9 },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CLEANUP_BUF struct buf got;
        struct header_iter it;
        struct header_field field;
        size_t raw = 0;
        struct str message = str_of(cases[i].message);
        buf_init(&got, 4096);
        for (header_begin(&it, message); header_next(&it, &field); raw += field.raw.n) {
            assert_ptr_equal(field.raw.p, message.p + raw);
            buf_put_str(&got, field.name);
            buf_put_char(&got, field.malformed ? '!' : '=');
            buf_put_str(&got, field.value);
            buf_put_char(&got, '|');
        }
        assert_str(buf_str(&got), cases[i].fields);
        assert_int_equal(header_end(message), cases[i].body);
        assert_in_range(cases[i].body - raw, 0, 2);
    }
}

static void test_find_count_remove(void **state)
{
    struct str message = STR(
        "Received: a\r\nBCC: x@y.example,\r\n z@y.example\r\nreceived: b\r\n junk\r\nJunk\r\nBcc:\r\nTo: c\r\n\r\nReceived: in body\r\n");
    struct header_field field;
    CLEANUP_BUF struct buf out;

    (void)state;
    assert_int_equal(header_count(message, STR("Received")), 2);
    assert_true(header_find(message, STR("bcc"), &field));
    assert_str(header_unfold(&a, field.value), "x@y.example, z@y.example");
    assert_false(header_find(message, STR("Subject"), &field));
    assert_false(header_find(message, STR(""), &field));
    buf_init(&out, 4096);
    header_remove(&out, message, STR("Bcc"));
    assert_str(buf_str(&out), "Received: a\r\nreceived: b\r\n junk\r\nJunk\r\nTo: c\r\n\r\nReceived: in body\r\n");
    assert_false(header_has_8bit(STR("A: b\r\n\r\n\x80")));
    assert_true(header_has_8bit(STR("A: \x80\r\n\r\n")));
}

static void test_decode(void **state)
{
    // clang-format off
    static const struct { const char *in, *out; } cases[] = {
        { " plain ",                                       "plain" },
        { "=?UTF-8?Q?a?=",                                 "a" },
        { "=?utf-8?q?f=C3=BCr_mich?= x",                   "f\xc3\xbcr mich x" },
        { "=?ISO-8859-1?Q?f=FCr?=",                        "f\xc3\xbcr" },
        { "=?UTF-8*de?B?ZsO8cg==?=",                       "f\xc3\xbcr" },
        { "=?UTF-8?Q?a?= =?UTF-8?Q?b?=\r\n =?UTF-8?Q?c?= d", "abc d" },
        { "a =?UTF-8?Q?b?= c",                             "a b c" },
        { "=?UTF-8?Q?a=0D=0AX:_y=00?=",                    "a  X: y" },
        { "=?UTF-8?Q?=C3?=",                               "\xef\xbf\xbd" },
        { "=?KOI8-R?Q?a?=",                                "=?KOI8-R?Q?a?=" },
        { "=?UTF-8?X?a?=",                                 "=?UTF-8?X?a?=" },
        { "=?UTF-8?B?*?=",                                 "=?UTF-8?B?*?=" },
        { "=?UTF-8?Q?a",                                   "=?UTF-8?Q?a" },
        { "=?UTF-8?",                                      "=?UTF-8?" },
        { "=?=?=?",                                        "=?=?=?" },
        { "a\x01" "b\x80",                                 "a b\xef\xbf\xbd" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_str(header_decode(&a, str_of(cases[i].in)), cases[i].out);
}

static void test_address_lists(void **state)
{
    enum { B = ADDRESS_BARE, I = ADDRESS_IDN, U = ADDRESS_UTF8 };
    /* Each address as name<address>; then the first bad piece. */
    // clang-format off
    static const struct { const char *in; unsigned options; const char *out, *bad; } cases[] = {
        { "",                                              0, "", "" },
        { " , ,\r\n (nothing) ,",                          0, "", "" },
        { "undisclosed-recipients:;",                      0, "", "" },
        { "bob",                                           0, "", "bob" },
        { "bob, Bob Smith, \"b b\"",                       B, "<bob>,<\"b b\">,", "Bob Smith" },
        { "<>",                                            B, "", "<>" },
        { "a@b.example x, c@d.example",                    0, "<c@d.example>,", "a@b.example x" },
        { "a@, <b@c.example, d@e.example>, f@g.example",   0, "<f@g.example>,", "a@" },
        { "\"open, a@b.example",                           0, "", "\"open, a@b.example" },
        { "(open, a@b.example",                            0, "", "" },
        { "x <a@b.example> y, c@d.example",                0, "<c@d.example>,", "x <a@b.example> y" },
        { "a..b@c.example, .a@c.example, a.@c.example",    0, "", "a..b@c.example" },
        { "a b@c.example",                                 0, "", "a b@c.example" },
        { "a@b@c.example",                                 0, "", "a@b@c.example" },
        { "a: b: c@d.example;, e@f.example",               0, "<e@f.example>,", "a: b: c@d.example" },
        { "a@b.example; c@d.example",                      0, "", "a@b.example; c@d.example" },
        { "a@192.0.2.1",                                   0, "", "a@192.0.2.1" },
        { "\"a\\\r\nb\"@c.example",                        0, "", "\"a\\\r\nb\"@c.example" },
        { "j\xc3\xbc@b.example",                           I, "", "j\xc3\xbc@b.example" },
        { "a@b\xc3\xbc.example",                           0, "", "a@b\xc3\xbc.example" },

        { "a@b.example",                                   0, "<a@b.example>,", "" },
        { "A@B.Example,c@d.example",                       0, "<A@b.example>,<c@d.example>,", "" },
        { "\"Smith, J. \\\"Jo\\\"\" <j@s.example>",        0, "Smith, J. \"Jo\"<j@s.example>,", "" },
        { "Joe Q. Public <john.q.public@example.com>",     0, "Joe Q. Public<john.q.public@example.com>,", "" },
        { "Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example", 0,      /* RFC 5322, A.6.1 */
          "Mary Smith<mary@example.net>,<jdoe@test.example>,", "" },
        { "A Group(Some people)\r\n     :Chris Jones <c@(Chris's host.)public.example>,\r\n         joe@example.org,\r\n"
          "  John <jdoe@one.test> (my dear friend); (the end of the group)", 0,      /* A.5 */
          "Chris Jones<c@public.example>,<joe@example.org>,John<jdoe@one.test>,", "" },
        { "Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", 0, "Pete<pete@silly.test>,", "" },
        { "a . \"b c\" @ d.example",                       0, "<\"a.b c\"@d.example>,", "" },
        { "<@a.example,,@b.example : c@d.example>",        0, "<c@d.example>,", "" },
        { "\"\" <a@b.example>",                            0, "<a@b.example>,", "" },
        { "a@[192.0.2.1], b@[IPv6:2001:DB8::1]",           0, "<a@[192.0.2.1]>,<b@[IPv6:2001:db8::1]>,", "" },
        { "\"Long\r\n name\" <a@b.example>",               0, "Long name<a@b.example>,", "" },
        { "J\xc3\xbcrgen <a@b\xc3\xbc" "cher.example>",    I, "J\xc3\xbcrgen<a@xn--bcher-kva.example>,", "" },
        { "j\xc3\xbc@b.example",                           U, "<j\xc3\xbc@b.example>,", "" },
        { "=?UTF-8?Q?J=C3=BC?= <a@b.example>",             0, "=?UTF-8?Q?J=C3=BC?=<a@b.example>,", "" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CLEANUP_BUF struct buf got;
        struct header_addresses list;
        buf_init(&got, 65536);
        assert_true(header_address_list(&a, str_of(cases[i].in), cases[i].options, &list));
        for (size_t k = 0; k < list.count; k++) {
            buf_put_str(&got, list.items[k].name);
            address_put_path(&got, &list.items[k].addr);
            buf_put_char(&got, ',');
        }
        assert_str(buf_str(&got), cases[i].out);
        assert_str(list.bad, cases[i].bad);
    }
}

static void test_too_many_addresses(void **state)
{
    CLEANUP_BUF struct buf value;
    struct header_addresses list;

    (void)state;
    buf_init(&value, 1 << 20);
    for (int i = 0; i < HEADER_ADDRESSES_MAX; i++)
        buf_put_z(&value, "a@b.example,");
    assert_true(header_address_list(&a, buf_str(&value), 0, &list));
    assert_int_equal(list.count, HEADER_ADDRESSES_MAX);
    buf_put_z(&value, "a@b.example");
    assert_false(header_address_list(&a, buf_str(&value), 0, &list));
    arena_reset(&a);
}

static void test_put_field(void **state)
{
    // clang-format off
    static const struct { const char *value, *out; } cases[] = {
        { "",                        "Subject:\r\n" },
        { "   ",                     "Subject:\r\n" },
        { "\r\nBcc: x\r\n\r\nbody",  "Subject: Bcc: x    body\r\n" },
        { "a\r\n.\r\n",              "Subject: a  .\r\n" },
        { "plain words",             "Subject: plain words\r\n" },
        { "f\xc3\xbcr",              "Subject: =?UTF-8?B?ZsO8cg==?=\r\n" },
        { "a\x80",                   "Subject: =?UTF-8?B?Ye+/vQ==?=\r\n" },
        { "=?UTF-8?Q?a?=",           "Subject: =?UTF-8?B?PT9VVEYtOD9RP2E/PQ==?=\r\n" },
        { "aaaaaaaaa bbbbbbbbb ccccccccc ddddddddd eeeeeeeee fffffffff ggggggggg hhhhhhhhh iiiiiiiii",
          "Subject: aaaaaaaaa bbbbbbbbb ccccccccc ddddddddd eeeeeeeee fffffffff ggggggggg\r\n hhhhhhhhh iiiiiiiii\r\n" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CLEANUP_BUF struct buf out;
        buf_init(&out, 65536);
        header_put_field(&out, "Subject", str_of(cases[i].value));
        assert_str(buf_str(&out), cases[i].out);
    }
}

/* One field that reads back, in lines of at most 998 characters, printable but for the folds. */
static void check_written(struct str out, const char *name)
{
    struct header_iter it;
    struct header_field field;
    struct str rest = out;

    header_begin(&it, out);
    assert_true(header_next(&it, &field));
    assert_str(field.name, name);
    assert_int_equal(field.raw.n, out.n);
    while (rest.n > 0) {
        ssize_t end = str_find_str(rest, STR("\r\n"));
        assert_in_range(end, 1, 998);
        assert_true(str_trim(str_head(rest, (size_t)end)).n > 0);
        for (ssize_t i = 0; i < end; i++)
            assert_true(rest.p[i] >= ' ' && rest.p[i] < 0x7f);
        rest = str_from(rest, (size_t)end + 2);
    }
}

static void test_put_anything(void **state)
{
    uint32_t seed = 1;

    (void)state;
    for (int round = 0; round < 2000; round++) {
        CLEANUP_BUF struct buf value, out;
        buf_init(&value, 1 << 16);
        buf_init(&out, 1 << 20);
        for (int i = round % 300; i > 0; i--) {
            seed = seed * 1664525 + 1013904223;
            buf_put_char(&value, round % 2 ? (char)(seed >> 24) : "ab \r\n\t\"=?"[(seed >> 24) % 9]);
        }
        header_put_field(&out, "X-Test", buf_str(&value));
        check_written(buf_str(&out), "X-Test");
        buf_clear(&out);
        header_put_structured(&out, "X-Test", buf_str(&value));
        check_written(buf_str(&out), "X-Test");
        struct header_mailbox items[2] = { { .name = buf_str(&value) }, { .name = STR("b") } };
        assert_true(address_of_parts(STR("a b"), STR("c.example"), &items[0].addr));
        assert_true(address_of_parts(STR("a"), STR("d.example"), &items[1].addr));
        buf_clear(&out);
        header_put_addresses(&out, "X-Test", items, 2);
        check_written(buf_str(&out), "X-Test");
        struct header_field field;
        struct header_addresses list;
        assert_true(header_find(buf_str(&out), STR("X-Test"), &field));
        assert_true(header_address_list(&a, field.value, 0, &list));
        assert_int_equal(list.count, 2);
        assert_true(address_eq(&list.items[0].addr, &items[0].addr));
    }
    arena_reset(&a);
}

static void test_put_long_word(void **state)
{
    CLEANUP_BUF struct buf out;
    char word[3000];

    (void)state;
    memset(word, 'x', sizeof word);
    buf_init(&out, 1 << 16);
    header_put_field(&out, "X-Test", (struct str){ word, sizeof word });
    check_written(buf_str(&out), "X-Test");
}

static void test_put_addresses(void **state)
{
    // clang-format off
    static const struct { const char *name, *out; } cases[] = {
        { "",                   "To: a@b.example\r\n" },
        { " \r\n",              "To: a@b.example\r\n" },
        { "Joe Public",         "To: Joe Public <a@b.example>\r\n" },
        { "Joe Q. Public",      "To: \"Joe Q. Public\" <a@b.example>\r\n" },
        { "x\" <y@z>,",         "To: \"x\\\" <y@z>,\" <a@b.example>\r\n" },
        { "J\xc3\xbcrgen, B.",  "To: =?UTF-8?B?SsO8cmdlbiwgQi4=?= <a@b.example>\r\n" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CLEANUP_BUF struct buf out;
        struct header_mailbox item = { .name = str_of(cases[i].name) };
        assert_true(address_of_parts(STR("a"), STR("b.example"), &item.addr));
        buf_init(&out, 65536);
        header_put_addresses(&out, "To", &item, 1);
        assert_str(buf_str(&out), cases[i].out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),        cmocka_unit_test(test_find_count_remove),  cmocka_unit_test(test_decode),
        cmocka_unit_test(test_address_lists), cmocka_unit_test(test_too_many_addresses), cmocka_unit_test(test_put_field),
        cmocka_unit_test(test_put_anything),  cmocka_unit_test(test_put_long_word),      cmocka_unit_test(test_put_addresses),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
