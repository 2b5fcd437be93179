/*
 * Replies.
 */
#include "base/cleanup.h"
#include "smtp/reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void assert_str(struct str s, const char *expected)
{
    assert_int_equal(s.n, strlen(expected));
    assert_true(str_eq(s, str_of(expected)));
}

static void test_put(void **state)
{
    // clang-format off
    static const struct { struct reply reply; const char *out; } cases[] = {
        { { 550, "5.1.1", "No\r\n250 such\x01\x80\tuser" }, "550-5.1.1 No\\x0D\r\n550 5.1.1 250 such\\x01\\x80\\x09user\r\n" },
        { { 250, NULL,    "" },                             "250 \r\n" },
        { { 250, NULL,    NULL },                           "250 \r\n" },
        { { 250, "2.0.0", "" },                             "250 2.0.0 \r\n" },
        { { 250, NULL,    "mx.example\nSIZE 1\nPIPELINING" }, "250-mx.example\r\n250-SIZE 1\r\n250 PIPELINING\r\n" },
        { { 250, "2.1.0", "a\n\nb" },                       "250-2.1.0 a\r\n250-2.1.0 \r\n250 2.1.0 b\r\n" },
        { { 354, NULL,    "Go on" },                        "354 Go on\r\n" },
    };
    // clang-format on
    CLEANUP_BUF struct buf out;

    (void)state;
    buf_init(&out, 1 << 16);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        buf_clear(&out);
        reply_put(&out, &cases[i].reply);
        assert_str(buf_str(&out), cases[i].out);
    }
}

static void test_put_long(void **state)
{
    CLEANUP_BUF struct buf out;
    char text[3001];
    struct str rest, line;
    size_t words = 0;

    (void)state;
    for (size_t i = 0; i < 3000; i++)
        text[i] = i % 10 == 9 && i < 2000 ? ' ' : 'a';
    text[3000] = '\0';
    buf_init(&out, 1 << 16);
    struct reply r = reply(550, "5.7.1", text);
    reply_put(&out, &r);
    rest = buf_str(&out);
    while (str_cut(rest, '\n', &line, &rest)) {
        assert_in_range(line.n + 1, 12, REPLY_WRITE_LINE_MAX);
        assert_true(str_starts(line, rest.n > 0 ? STR("550-5.7.1 a") : STR("550 5.7.1 a")));
        words += line.n - 11;
    }
    assert_int_equal(words, 3000);
}

// clang-format off
static const struct {
    const char       *in;
    enum reply_result result;
    size_t            consumed;
    int               code;
    const char       *enhanced, *text;
} cases[] = {
    { "\r\n",                                  REPLY_BAD,  0 },
    { "hello\r\n",                             REPLY_BAD,  0 },
    { "25\r\n",                                REPLY_BAD,  0 },
    { "250_ok\r\n",                            REPLY_BAD,  0 },
    { "2500 ok\r\n",                           REPLY_BAD,  0 },
    { "150 ok\r\n",                            REPLY_BAD,  0 },
    { "650 ok\r\n",                            REPLY_BAD,  0 },
    { "250-a\r\n550 b\r\n",                    REPLY_BAD,  7 },      /* two codes in one reply */
    { "250-a\r\n\r\n250 b\r\n",                REPLY_BAD,  7 },
    { "",                                      REPLY_MORE, 0 },
    { "250",                                   REPLY_MORE, 0 },
    { "250 ok\r",                              REPLY_MORE, 0 },
    { "250-ok\r\n25",                          REPLY_MORE, 8 },
    { "250\r\n",                               REPLY_DONE, 5,  250, "",      "" },
    { "250\n",                                 REPLY_DONE, 4,  250, "",      "" },
    { "250 \r\n",                              REPLY_DONE, 6,  250, "",      "" },
    { "250 ok\nrest",                          REPLY_DONE, 7,  250, "",      "ok" },
    { "250 ok\r\r\n",                          REPLY_DONE, 9,  250, "",      "ok " },
    { "250-mx\r\n250-SIZE\r\n250 X\r\n250 y",  REPLY_DONE, 25, 250, "",      "mx\nSIZE\nX" },
    { "250-\r\n250 \r\n",                      REPLY_DONE, 12, 250, "",      "\n" },
    { "550 5.1.1 No such user\r\n",            REPLY_DONE, 24, 550, "5.1.1", "No such user" },
    { "550-5.1.1 No\r\n550 5.1.1 user\r\n",    REPLY_DONE, 30, 550, "5.1.1", "No\nuser" },
    { "550-No\r\n550 5.1.1 user\r\n",          REPLY_DONE, 24, 550, "5.1.1", "No\nuser" },
    { "550 5.1.1\r\n",                         REPLY_DONE, 11, 550, "5.1.1", "" },
    { "550 5.123.456 x\r\n",                   REPLY_DONE, 17, 550, "5.123.456", "x" },
    { "550 5.1234.1 x\r\n",                    REPLY_DONE, 16, 550, "",      "5.1234.1 x" },
    { "550 5.1.1x y\r\n",                      REPLY_DONE, 14, 550, "",      "5.1.1x y" },
    { "550 5.1. y\r\n",                        REPLY_DONE, 12, 550, "",      "5.1. y" },
    { "550 4.1.1 y\r\n",                       REPLY_DONE, 13, 550, "",      "4.1.1 y" },      /* not of this code's class */
    { "354 3.0.0 y\r\n",                       REPLY_DONE, 13, 354, "",      "3.0.0 y" },
    { "550 a\x01\x7f\tb\r\n",                  REPLY_DONE, 11, 550, "",      "a   b" },
};
// clang-format on

static void check(size_t i, struct smtp_reply *r, enum reply_result result, size_t consumed)
{
    if (result != cases[i].result || consumed != cases[i].consumed)
        fail_msg("case %zu: %d, %zu", i, (int)result, consumed);
    if (result != REPLY_DONE)
        return;
    assert_int_equal(r->code, cases[i].code);
    assert_string_equal(r->enhanced, cases[i].enhanced);
    assert_str(buf_str(&r->text), cases[i].text);
}

static void test_parse(void **state)
{
    struct smtp_reply r;

    (void)state;
    smtp_reply_init(&r);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str in = str_of(cases[i].in);
        for (size_t split = 0; split <= in.n; split++) {
            size_t used, more = 0;
            smtp_reply_clear(&r);
            enum reply_result result = smtp_parse_reply(str_head(in, split), &used, &r);
            if (result == REPLY_MORE)
                result = smtp_parse_reply(str_from(in, used), &more, &r);
            check(i, &r, result, used + more);
        }
    }
    smtp_reply_free(&r);
}

static void test_one_after_the_other(void **state)
{
    struct smtp_reply r;
    struct str in = STR("250-5.1\r\n250 2.0.0 a\r\n354 go\r\nbad\r\n250 x\r\n");
    size_t used;

    (void)state;
    smtp_reply_init(&r);
    assert_int_equal(smtp_parse_reply(in, &used, &r), REPLY_DONE);
    assert_str(smtp_reply_line(&r), "5.1 a");
    in = str_from(in, used);
    assert_int_equal(smtp_parse_reply(in, &used, &r), REPLY_DONE);
    assert_int_equal(r.code, 354);
    assert_string_equal(r.enhanced, "");
    in = str_from(in, used);
    assert_int_equal(smtp_parse_reply(in, &used, &r), REPLY_BAD);
    assert_int_equal(smtp_parse_reply(STR("250 x\r\n"), &used, &r), REPLY_BAD); /* sticky */
    smtp_reply_clear(&r);
    assert_int_equal(smtp_parse_reply(STR("250 x\r\n"), &used, &r), REPLY_DONE);
    smtp_reply_free(&r);
}

static void test_limits(void **state)
{
    CLEANUP_BUF struct buf in;
    struct smtp_reply r;
    size_t used;

    (void)state;
    smtp_reply_init(&r);
    buf_init(&in, 1 << 20);

    for (int i = 0; i < REPLY_LINES_MAX; i++)
        buf_printf(&in, "250-%0200d\r\n", i);
    assert_int_equal(smtp_parse_reply(buf_str(&in), &used, &r), REPLY_MORE);
    assert_int_equal(r.text.n, REPLY_TEXT_MAX);
    assert_int_equal(smtp_parse_reply(STR("250 x\r\n"), &used, &r), REPLY_BAD);

    smtp_reply_clear(&r);
    buf_clear(&in);
    buf_printf(&in, "250 %0*d", REPLY_LINE_MAX - 6, 0);
    assert_int_equal(smtp_parse_reply(buf_str(&in), &used, &r), REPLY_MORE);
    buf_put_z(&in, "\r\n");
    assert_int_equal(smtp_parse_reply(buf_str(&in), &used, &r), REPLY_DONE);
    buf_truncate(&in, in.n - 2);
    buf_put_z(&in, "0\r\n");
    assert_int_equal(smtp_parse_reply(buf_str(&in), &used, &r), REPLY_BAD);
    buf_truncate(&in, in.n - 1);
    smtp_reply_clear(&r);
    assert_int_equal(smtp_parse_reply(buf_str(&in), &used, &r), REPLY_BAD);
    smtp_reply_free(&r);
}

/* EXPN with SMTPUTF8 (RFC 6531, 3.7.4.2); controls are escaped all the same. */
static void test_put_utf8(void **state)
{
    CLEANUP_BUF struct buf out;
    struct reply r = { .code = 250, .enhanced = "2.1.5", .text = "<j\xc3\xbc@x>\n\x7f", .utf8 = true };

    (void)state;
    buf_init(&out, 1024);
    reply_put(&out, &r);
    assert_true(str_eq(buf_str(&out), STR("250-2.1.5 <j\xc3\xbc@x>\r\n250 2.1.5 \\x7F\r\n")));
    r.utf8 = false;
    buf_clear(&out);
    reply_put(&out, &r);
    assert_true(str_eq(buf_str(&out), STR("250-2.1.5 <j\\xC3\\xBC@x>\r\n250 2.1.5 \\x7F\r\n")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_utf8), cmocka_unit_test(test_put),    cmocka_unit_test(test_put_long),
        cmocka_unit_test(test_parse),  cmocka_unit_test(test_one_after_the_other),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
