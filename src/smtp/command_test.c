/*
 * Commands: lines, MAIL and RCPT with their parameters, and back to text.
 */
#include "base/cleanup.h"
#include "mail/envelope.h"
#include "smtp/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct arena a;

static int setup(void **state)
{
    (void)state;
    arena_init(&a, 4 << 20);
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
    assert_int_equal(s.n, strlen(expected));
    assert_true(str_eq(s, str_of(expected)));
}

static void test_lines(void **state)
{
    // clang-format off
    static const struct { struct str line; enum verb verb; const char *args; } cases[] = {
        { { "", 0 },                          VERB_UNKNOWN,  "" },
        { { " NOOP", 5 },                     VERB_UNKNOWN,  "NOOP" },
        { { "MAILFROM:<a@b>", 14 },           VERB_UNKNOWN,  "MAILFROM:<a@b>" },
        { { "GET / HTTP/1.1", 14 },           VERB_UNKNOWN,  "GET / HTTP/1.1" },
        { { "QUITX", 5 },                     VERB_UNKNOWN,  "QUITX" },
        { { "QUI", 3 },                       VERB_UNKNOWN,  "QUI" },
        { { "NOOP\rRSET", 9 },                VERB_UNKNOWN,  "NOOP\rRSET" },
        { { "NOOP a\nRSET", 11 },             VERB_UNKNOWN,  "NOOP a\nRSET" },
        { { "noop", 4 },                      VERB_NOOP,     "" },
        { { "QuIt  \t ", 8 },                 VERB_QUIT,     "" },
        { { "mail from:<>", 12 },             VERB_MAIL,     "from:<>" },
        { { "RCPT\tTO:<a@b> ", 14 },          VERB_RCPT,     "TO:<a@b>" },
        { { "EHLO   a.example", 16 },         VERB_EHLO,     "a.example" },
        { { "STARTTLS", 8 },                  VERB_STARTTLS, "" },
        { { "XCLIENT ADDR=192.0.2.1", 22 },   VERB_XCLIENT,  "ADDR=192.0.2.1" },
    };
    // clang-format on
    struct smtp_line line;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        smtp_parse_line(cases[i].line, &line);
        if (line.verb != cases[i].verb)
            fail_msg("case %zu", i);
        assert_str(line.args, cases[i].args);
    }
    smtp_parse_line((struct str){ "NOOP\0", 5 }, &line);
    assert_int_equal(line.verb, VERB_UNKNOWN);
    for (enum verb verb = VERB_HELO; verb < VERB_COUNT; verb++) {
        smtp_parse_line(str_of(smtp_verb_name(verb)), &line);
        assert_int_equal(line.verb, verb);
    }
}

// clang-format off
static const struct { const char *args; enum smtp_parse result; const char *out; const char *culprit; } mail_cases[] = {
    { "",                                     SMTP_BAD_SYNTAX },
    { "<a@b.example>",                        SMTP_BAD_SYNTAX },
    { "TO:<a@b.example>",                     SMTP_BAD_SYNTAX },
    { "FROM <a@b.example>",                   SMTP_BAD_SYNTAX },
    { "FROM:",                                SMTP_BAD_SYNTAX },
    { "FROM:a@b.example",                     SMTP_BAD_SYNTAX },
    { "FROM:<a@b.example>SIZE=1",             SMTP_BAD_SYNTAX },
    { "FROM:<a@b.example> =1",                SMTP_BAD_SYNTAX },
    { "FROM:<a@b.example> <c@d.example>",     SMTP_BAD_SYNTAX },
    { "FROM:<a@b.example> -X=1",              SMTP_BAD_SYNTAX },
    { "FROM:<a@b.example",                    SMTP_BAD_ADDRESS },
    { "FROM:<a@b.example SIZE=1",             SMTP_BAD_ADDRESS },
    { "FROM:<<a@b.example>>",                 SMTP_BAD_ADDRESS },
    { "FROM:<postmaster>",                    SMTP_BAD_ADDRESS },
    { "FROM:<a@b..example>",                  SMTP_BAD_ADDRESS },
    { "FROM:<j\xc3\xbc@b.example>",           SMTP_NEEDS_UTF8 },
    { "FROM:<a@b\xc3\xbc.example>",           SMTP_NEEDS_UTF8 },      /* a U-label on the wire needs it too (RFC 6531, 3.2) */
    { "FROM:<j\xc3@b.example> SMTPUTF8",      SMTP_BAD_ADDRESS },
    { "FROM:<> FOO",                          SMTP_UNKNOWN_PARAMETER,   NULL, "FOO" },
    { "FROM:<> foo=bar SIZE=x",               SMTP_UNKNOWN_PARAMETER,   NULL, "foo" },
    { "FROM:<> NOTIFY=NEVER",                 SMTP_UNKNOWN_PARAMETER,   NULL, "NOTIFY" },      /* of RCPT */
    { "FROM:<> SIZE=1 size=1",                SMTP_DUPLICATE_PARAMETER, NULL, "size" },
    { "FROM:<> SIZE",                         SMTP_BAD_PARAMETER,       NULL, "SIZE" },
    { "FROM:<> SIZE=",                        SMTP_BAD_PARAMETER,       NULL, "SIZE" },
    { "FROM:<> SIZE=-1",                      SMTP_BAD_PARAMETER,       NULL, "SIZE" },
    { "FROM:<> SIZE=100000000000000000000",   SMTP_BAD_PARAMETER,       NULL, "SIZE" },
    { "FROM:<> SIZE=9999999999999999999x",    SMTP_BAD_PARAMETER,       NULL, "SIZE" },
    { "FROM:<> BODY=9BIT",                    SMTP_BAD_PARAMETER,       NULL, "BODY" },
    { "FROM:<> SMTPUTF8=",                    SMTP_BAD_PARAMETER,       NULL, "SMTPUTF8" },
    { "FROM:<> REQUIRETLS=yes",               SMTP_BAD_PARAMETER,       NULL, "REQUIRETLS" },
    { "FROM:<> RET=SOME",                     SMTP_BAD_PARAMETER,       NULL, "RET" },
    { "FROM:<> ENVID=+0D+0A",                 SMTP_BAD_PARAMETER,       NULL, "ENVID" },      /* would end our own field */
    { "FROM:<> ENVID=a+2",                    SMTP_BAD_PARAMETER,       NULL, "ENVID" },
    { "FROM:<> ENVID=a+2b",                   SMTP_BAD_PARAMETER,       NULL, "ENVID" },
    { "FROM:<> ENVID=a=b",                    SMTP_BAD_PARAMETER,       NULL, "ENVID" },
    { "FROM:<> MT-PRIORITY=10",               SMTP_BAD_PARAMETER,       NULL, "MT-PRIORITY" },
    { "FROM:<> MT-PRIORITY=-0",               SMTP_BAD_PARAMETER,       NULL, "MT-PRIORITY" },
    { "FROM:<> HOLDFOR=1000000000",           SMTP_BAD_PARAMETER,       NULL, "HOLDFOR" },
    { "FROM:<> HOLDUNTIL=tomorrow",           SMTP_BAD_PARAMETER,       NULL, "HOLDUNTIL" },
    { "FROM:<> HOLDFOR=1 HOLDUNTIL=2030-01-01T00:00:00Z", SMTP_BAD_PARAMETER, NULL, "HOLDUNTIL" },
    { "FROM:<> BY=10",                        SMTP_BAD_PARAMETER,       NULL, "BY" },
    { "FROM:<> BY=10;X",                      SMTP_BAD_PARAMETER,       NULL, "BY" },
    { "FROM:<> BY=-10;R",                     SMTP_BAD_PARAMETER,       NULL, "BY" },
    { "FROM:<> BY=;N",                        SMTP_BAD_PARAMETER,       NULL, "BY" },

    { "FROM:<>",                              SMTP_OK, "MAIL FROM:<>\r\n" },
    { "from:<>",                              SMTP_OK, "MAIL FROM:<>\r\n" },
    { "FROM: \t<A@b.Example>",                SMTP_OK, "MAIL FROM:<A@b.example>\r\n" },
    { "FROM:<@x.example:a@b.example>",        SMTP_OK, "MAIL FROM:<a@b.example>\r\n" },
    { "FROM:<\"a> SIZE=1\"@b.example>",       SMTP_OK, "MAIL FROM:<\"a> SIZE=1\"@b.example>\r\n" },
    { "FROM:<a@b.example>  size=1\tBODY=8bitmime ", SMTP_OK, "MAIL FROM:<a@b.example> SIZE=1 BODY=8BITMIME\r\n" },
    { "FROM:<> SIZE=18446744073709551615",    SMTP_OK, "MAIL FROM:<> SIZE=18446744073709551615\r\n" },
    { "FROM:<> SIZE=99999999999999999999",    SMTP_OK, "MAIL FROM:<> SIZE=18446744073709551615\r\n" },      /* too big, not unreadable */
    { "FROM:<j\xc3\xbc@b.example> SMTPUTF8",  SMTP_OK, "MAIL FROM:<j\xc3\xbc@b.example> SMTPUTF8\r\n" },
    { "FROM:<> RET=hdrs ENVID=a+2Bb+20c",     SMTP_OK, "MAIL FROM:<> RET=HDRS ENVID=a+2Bb+20c\r\n" },
    { "FROM:<> AUTH=<>",                      SMTP_OK, "MAIL FROM:<> AUTH=<>\r\n" },
    { "FROM:<> AUTH=e+3Dmc2@example.com",     SMTP_OK, "MAIL FROM:<> AUTH=e+3Dmc2@example.com\r\n" },
    { "FROM:<> REQUIRETLS MT-PRIORITY=-9",    SMTP_OK, "MAIL FROM:<> REQUIRETLS MT-PRIORITY=-9\r\n" },
    { "FROM:<> HOLDFOR=60 BY=+120;nt",        SMTP_OK, "MAIL FROM:<> HOLDFOR=60 BY=120;NT\r\n" },
    { "FROM:<> HOLDUNTIL=2030-01-01T01:00:00.5+01:00", SMTP_OK, "MAIL FROM:<> HOLDUNTIL=2030-01-01T00:00:00Z\r\n" },
    { "FROM:<> BY=-5;N",                      SMTP_OK, "MAIL FROM:<> BY=-5;N\r\n" },
};
// clang-format on

static void test_mail(void **state)
{
    CLEANUP_BUF struct buf out;

    (void)state;
    buf_init(&out, 1 << 16);
    for (size_t i = 0; i < sizeof mail_cases / sizeof mail_cases[0]; i++) {
        struct mail_args args;
        struct str culprit = STR("");
        enum smtp_parse r = smtp_parse_mail(&a, str_of(mail_cases[i].args), &args, &culprit);
        if (r != mail_cases[i].result)
            fail_msg("case %zu: %s: %d", i, mail_cases[i].args, (int)r);
        assert_str(culprit, mail_cases[i].culprit == NULL ? "" : mail_cases[i].culprit);
        if (r != SMTP_OK)
            continue;
        buf_clear(&out);
        smtp_put_mail(&out, &args);
        assert_str(buf_str(&out), mail_cases[i].out);
    }
    assert_false(arena_failed(&a));
}

static void test_mail_values(void **state)
{
    struct mail_args m;

    (void)state;
    assert_int_equal(smtp_parse_mail(&a, STR("FROM:<> ENVID=QQ+2B1 RET=FULL BY=7;RT MT-PRIORITY=3 SIZE=12"), &m, NULL), SMTP_OK);
    assert_true(m.null_sender);
    assert_int_equal(m.seen, PARAM_ENVID | PARAM_RET | PARAM_BY | PARAM_MT_PRIORITY | PARAM_SIZE);
    assert_str(m.envid, "QQ+1");
    assert_int_equal(m.ret, RET_FULL);
    assert_int_equal(m.by_s, 7);
    assert_int_equal(m.by_mode, 'R');
    assert_true(m.by_trace);
    assert_int_equal(m.priority, 3);
    assert_int_equal(m.size, 12);
}

// clang-format off
static const struct { const char *args; enum smtp_parse result; const char *out; } rcpt_cases[] = {
    { "FROM:<a@b.example>",                          SMTP_BAD_SYNTAX },
    { "TO:<>",                                       SMTP_BAD_ADDRESS },
    { "TO:<bob>",                                    SMTP_BAD_ADDRESS },
    { "TO:<j\xc3\xbc@b.example>",                    SMTP_NEEDS_UTF8 },
    { "TO:<a@b.example> SIZE=1",                     SMTP_UNKNOWN_PARAMETER },
    { "TO:<a@b.example> NOTIFY=NEVER,DELAY",         SMTP_BAD_PARAMETER },
    { "TO:<a@b.example> NOTIFY=SUCCESS,",            SMTP_BAD_PARAMETER },
    { "TO:<a@b.example> NOTIFY=",                    SMTP_BAD_PARAMETER },
    { "TO:<a@b.example> ORCPT=rfc822",               SMTP_BAD_PARAMETER },
    { "TO:<a@b.example> ORCPT=;a",                   SMTP_BAD_PARAMETER },
    { "TO:<a@b.example> ORCPT=rfc822;",              SMTP_BAD_PARAMETER },
    { "TO:<a@b.example> ORCPT=rfc822;a+0D+0AX:",     SMTP_BAD_PARAMETER },
    { "TO:<a@b.example> ORCPT=rfc822;j\xc3\xbc@b",   SMTP_BAD_PARAMETER },
    { "TO:<a@b.example> ORCPT=r_c;a",                SMTP_BAD_PARAMETER },
    { "TO:<a@b.example> RRVS=2014-04-03T23:01:00Z;X", SMTP_BAD_PARAMETER },
    { "TO:<a@b.example> NOTIFY=DELAY NOTIFY=DELAY",  SMTP_DUPLICATE_PARAMETER },
    { "TO:<Postmaster>",                             SMTP_OK, "RCPT TO:<Postmaster>\r\n" },
    { "to: <a@b.example>",                           SMTP_OK, "RCPT TO:<a@b.example>\r\n" },
    { "TO:<a@b.example> notify=never",               SMTP_OK, "RCPT TO:<a@b.example> NOTIFY=NEVER\r\n" },
    { "TO:<a@b.example> NOTIFY=DELAY,SUCCESS,FAILURE", SMTP_OK, "RCPT TO:<a@b.example> NOTIFY=SUCCESS,FAILURE,DELAY\r\n" },
    { "TO:<a@b.example> ORCPT=RFC822;Bob+2Bx@c.example", SMTP_OK, "RCPT TO:<a@b.example> ORCPT=rfc822;Bob+2Bx@c.example\r\n" },
    { "TO:<a@b.example> ORCPT=utf-8;j\xc3\xbc@b.example", SMTP_BAD_PARAMETER },       /* only with SMTPUTF8 (RFC 6533, 3) */
    { "TO:<a@b.example> ORCPT=utf-8;j\\x{FC}@b.example", SMTP_OK, "RCPT TO:<a@b.example> ORCPT=utf-8;j\\x{FC}@b.example\r\n" },
    { "TO:<a@b.example> RRVS=2014-04-03T23:01:00Z",  SMTP_OK, "RCPT TO:<a@b.example> RRVS=2014-04-03T23:01:00Z;R\r\n" },
    { "TO:<a@b.example> RRVS=2014-04-03T23:01:00Z;C", SMTP_OK, "RCPT TO:<a@b.example> RRVS=2014-04-03T23:01:00Z;C\r\n" },
};
// clang-format on

static void test_rcpt(void **state)
{
    CLEANUP_BUF struct buf out;
    struct rcpt_args args;

    (void)state;
    buf_init(&out, 1 << 16);
    for (size_t i = 0; i < sizeof rcpt_cases / sizeof rcpt_cases[0]; i++) {
        enum smtp_parse r = smtp_parse_rcpt(&a, str_of(rcpt_cases[i].args), &args, NULL);
        if (r != rcpt_cases[i].result)
            fail_msg("case %zu: %s: %d", i, rcpt_cases[i].args, (int)r);
        if (r != SMTP_OK)
            continue;
        buf_clear(&out);
        smtp_put_rcpt(&out, &args);
        assert_str(buf_str(&out), rcpt_cases[i].out);
    }
    assert_int_equal(smtp_parse_rcpt_utf8(&a, STR("TO:<j\xc3\xbc@b.example>"), &args, NULL), SMTP_OK);
    assert_true(args.rcpt.utf8);
    assert_int_equal(smtp_parse_rcpt(&a, STR("TO:<a@b.example> ORCPT=rfc822;Bob+2Bx@c"), &args, NULL), SMTP_OK);
    assert_str(args.orcpt, "rfc822;Bob+x@c");
    /* where it goes may not take UTF-8: it is kept so that it can go anywhere */
    assert_int_equal(smtp_parse_rcpt_utf8(&a, STR("TO:<a@b.example> ORCPT=utf-8;j\xc3\xbc\\x{FC}@c"), &args, NULL), SMTP_OK);
    assert_str(args.orcpt, "utf-8;j\\x{FC}\\x{FC}@c");
    /* from Postfix */
    assert_int_equal(smtp_parse_rcpt_utf8(&a, STR("TO:<a@b.example> ORCPT=rfc822;j+C3+BC+2B@c"), &args, NULL), SMTP_OK);
    assert_str(args.orcpt, "utf-8;j\\x{FC}\\x{2B}@c");
    assert_int_equal(smtp_parse_rcpt_utf8(&a, STR("TO:<a@b.example> ORCPT=rfc822;j+C3@c"), &args, NULL), SMTP_BAD_PARAMETER);
    assert_int_equal(smtp_parse_rcpt_utf8(&a, STR("TO:<a@b.example> ORCPT=x400;j+C3+BC@c"), &args, NULL), SMTP_BAD_PARAMETER);
    assert_int_equal(smtp_parse_rcpt_utf8(&a, STR("TO:<a@b.example> ORCPT=utf-8;j\xc2\x85@c"), &args, NULL), SMTP_BAD_PARAMETER);
    assert_int_equal(smtp_parse_rcpt_utf8(&a, STR("TO:<a@b.example> ORCPT=rfc822;j\xc3\xbc@c"), &args, NULL), SMTP_BAD_PARAMETER);
}

static void test_hello(void **state)
{
    // clang-format off
    static const struct { const char *args; const char *name; } cases[] = {
        { "",                    NULL },
        { "a\x01.example",       NULL },
        { "\xc3\xbc.example",    NULL },
        { "[192.0.2.1]",         "[192.0.2.1]" },
        { "My_PC",               "My_PC" },
        { "a.example and more",  "a.example" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str name;
        assert_int_equal(smtp_parse_hello(&a, str_of(cases[i].args), &name), cases[i].name == NULL ? SMTP_BAD_SYNTAX : SMTP_OK);
        if (cases[i].name != NULL)
            assert_str(name, cases[i].name);
    }
}

static void test_bdat(void **state)
{
    // clang-format off
    static const struct { const char *args; enum smtp_parse result; uint64_t size; bool last; } cases[] = {
        { "",                     SMTP_BAD_SYNTAX,    0, false },
        { "LAST",                 SMTP_BAD_SYNTAX,    0, false },
        { "-1",                   SMTP_BAD_SYNTAX,    0, false },
        { "0x10",                 SMTP_BAD_SYNTAX,    0, false },
        { "1,000",                SMTP_BAD_SYNTAX,    0, false },
        { "18446744073709551616", SMTP_BAD_SYNTAX,    0, false },
        { "1 FIRST",              SMTP_BAD_PARAMETER, 1, false },   /* the octet comes all the same */
        { "2 LAST more",          SMTP_BAD_PARAMETER, 2, false },
        { "0 LAST",               SMTP_OK,            0, true },
        { "1000",                 SMTP_OK,            1000, false },
        { "86 last",              SMTP_OK,            86, true },
        { "18446744073709551615", SMTP_OK,            UINT64_MAX, false },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t size = 0;
        bool last = false;
        assert_int_equal(smtp_parse_bdat(str_of(cases[i].args), &size, &last), cases[i].result);
        assert_true(size == cases[i].size && last == cases[i].last);
    }
}

static void test_full_arena(void **state)
{
    struct arena small;
    struct mail_args mail;
    struct rcpt_args rcpt;
    struct str line = STR("TO:<somebody@a-longer-domain.example> ORCPT=rfc822;somebody@a-longer-domain.example");

    (void)state;
    for (size_t limit = 0; limit < 400; limit += 8) {
        arena_init(&small, limit);
        enum smtp_parse r = smtp_parse_rcpt(&small, line, &rcpt, NULL);
        assert_true(r == (arena_failed(&small) ? SMTP_NO_MEMORY : SMTP_OK));
        arena_reset(&small);
        r = smtp_parse_mail(&small, STR("FROM:<somebody@a-longer-domain.example> ENVID=abcdefg"), &mail, NULL);
        assert_true(r == (arena_failed(&small) ? SMTP_NO_MEMORY : SMTP_OK));
        arena_reset(&small);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines), cmocka_unit_test(test_mail), cmocka_unit_test(test_mail_values), cmocka_unit_test(test_rcpt),
        cmocka_unit_test(test_hello), cmocka_unit_test(test_bdat), cmocka_unit_test(test_full_arena),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
