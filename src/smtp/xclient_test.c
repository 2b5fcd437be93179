/*
 * The arguments of XCLIENT and XFORWARD.
 */
#include "smtp/xclient.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

// clang-format off
static const struct { bool forward; const char *args; enum smtp_parse result; unsigned seen; const char *words; } cases[] = {
    { false, "HELO=a+0D+0ARCPT",                   SMTP_BAD_PARAMETER,       0, "HELO" },      /* nothing can be injected */
    { false, "HELO=a+20b",                         SMTP_BAD_PARAMETER,       0, "HELO" },
    { false, "HELO=a+0db",                         SMTP_BAD_PARAMETER,       0, "HELO" },      /* lower-case hex is no xtext */
    { false, "HELO=a=b",                           SMTP_BAD_PARAMETER,       0, "HELO" },
    { false, "HELO=a+3Db",                         SMTP_OK, XCLIENT_HELO,       "helo a=b" },
    { false, "NAME=a_b.example",                   SMTP_OK, XCLIENT_NAME,       "name a_b.example" },
    { false, "NAME=(hidden)",                      SMTP_BAD_PARAMETER,       0, "NAME" },
    { false, "NAME=[UNAVAILABLE]",                 SMTP_OK, XCLIENT_NAME,       "" },
    { false, "name=[tempunavail] helo=x",          SMTP_OK, XCLIENT_NAME | XCLIENT_HELO, "helo x" },
    { false, "NAME=",                              SMTP_OK, XCLIENT_NAME,       "" },
    { false, "REVERSE_NAME=r.example NAME=n.example", SMTP_OK, XCLIENT_REVERSE_NAME | XCLIENT_NAME, "name n.example" },
    { false, "ADDR=192.0.2.7",                     SMTP_OK, XCLIENT_ADDR,       "ip4 7" },
    { false, "ADDR=IPv6:2001:db8::7",              SMTP_OK, XCLIENT_ADDR,       "ip16 7" },
    { false, "ADDR=2001:db8::7",                   SMTP_BAD_PARAMETER,       0, "ADDR" },
    { false, "ADDR=IPV6:192.0.2.7",                SMTP_BAD_PARAMETER,       0, "ADDR" },
    { false, "ADDR=192.0.2.256",                   SMTP_BAD_PARAMETER,       0, "ADDR" },
    { false, "ADDR=192.0.2.7+00",                  SMTP_BAD_PARAMETER,       0, "ADDR" },
    { false, "ADDR=[UNAVAILABLE]",                 SMTP_OK, XCLIENT_ADDR,       "" },
    { false, "PORT=65535",                         SMTP_OK, XCLIENT_PORT,       "port 65535" },
    { false, "PORT=65536",                         SMTP_BAD_PARAMETER,       0, "PORT" },
    { false, "PORT=[UNAVAILABLE]",                 SMTP_OK, XCLIENT_PORT,       "" },
    { false, "PROTO=esmtp",                        SMTP_OK, XCLIENT_PROTO,      "esmtp" },
    { false, "PROTO=SMTP",                         SMTP_OK, XCLIENT_PROTO,      "" },
    { false, "PROTO=HTTP",                         SMTP_BAD_PARAMETER,       0, "PROTO" },
    { false, "LOGIN=anna@here.example",            SMTP_OK, XCLIENT_LOGIN,      "login anna@here.example" },
    { false, "LOGIN=[UNAVAILABLE]",                SMTP_OK, XCLIENT_LOGIN,      "" },
    { false, "DESTADDR=192.0.2.1 DESTPORT=25",     SMTP_OK, XCLIENT_DESTADDR | XCLIENT_DESTPORT, "" },
    { false, "IDENT=x",                            SMTP_UNKNOWN_PARAMETER,   0, "IDENT" },
    { false, "SOURCE=LOCAL",                       SMTP_UNKNOWN_PARAMETER,   0, "SOURCE" },
    { false, "HELO=a HELO=b",                      SMTP_DUPLICATE_PARAMETER, 0, "HELO" },
    { false, "\x1b[2J=a",                          SMTP_BAD_SYNTAX,          0, "" },
    { false, "",                                   SMTP_BAD_SYNTAX,          0, "" },
    { false, "HELO",                               SMTP_BAD_SYNTAX,          0, "" },
    { false, "=a",                                 SMTP_BAD_SYNTAX,          0, "" },
    { true,  "LOGIN=x",                            SMTP_UNKNOWN_PARAMETER,   0, "LOGIN" },
    { true,  "NAME=n.example ADDR=192.0.2.7 PORT=1 PROTO=SMTP HELO=h IDENT=ABC123 SOURCE=LOCAL", SMTP_OK,
      XCLIENT_NAME | XCLIENT_ADDR | XCLIENT_PORT | XCLIENT_PROTO | XCLIENT_HELO | XCLIENT_IDENT | XCLIENT_SOURCE,
      "name n.example helo h ip4 7 port 1 ident ABC123 local" },
    { true,  "SOURCE=REMOTE",                      SMTP_OK, XCLIENT_SOURCE,     "" },
    { true,  "SOURCE=HERE",                        SMTP_BAD_PARAMETER,       0, "SOURCE" },
};
// clang-format on

static void put(struct buf *out, const char *what, struct str value)
{
    if (value.n > 0)
        buf_printf(out, " %s %" STR_FMT, what, STR_ARG(value));
}

static void words_of(const struct xclient_args *args, struct buf *out)
{
    put(out, "name", args->name);
    put(out, "helo", args->helo);
    if (args->addr.len > 0)
        buf_printf(out, " ip%zu %d", args->addr.len, args->addr.ip[args->addr.len - 1]);
    if (args->port > 0)
        buf_printf(out, " port %u", args->port);
    put(out, "login", args->login);
    put(out, "ident", args->ident);
    buf_put_z(out, args->esmtp ? " esmtp" : "");
    buf_put_z(out, args->source_local ? " local" : "");
}

static void test_arguments(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 1 << 16);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct xclient_args args = { .seen = 0 };
        struct str culprit = STR("");
        char text[256];
        struct buf words;
        enum smtp_parse r = cases[i].forward ? smtp_parse_xforward(&a, str_of(cases[i].args), &args, &culprit)
                                             : smtp_parse_xclient(&a, str_of(cases[i].args), &args, &culprit);
        buf_init_fixed(&words, text, sizeof text);
        words_of(&args, &words);
        struct str said = r == SMTP_OK ? str_trim(buf_str(&words)) : culprit;
        if (r != cases[i].result || args.seen != cases[i].seen || !str_eq(said, str_of(cases[i].words)))
            fail_msg("%s: %d, %x, %" STR_FMT, cases[i].args, r, args.seen, STR_ARG(said));
        arena_reset(&a);
    }
}

static void test_limits(void **state)
{
    char line[400] = "HELO=";
    struct xclient_args args;
    struct arena a;

    (void)state;
    arena_init(&a, 1 << 16);
    memset(line + 5, 'a', XCLIENT_TEXT_MAX);
    assert_int_equal(smtp_parse_xclient(&a, str_of(line), &args, NULL), SMTP_OK);
    line[5 + XCLIENT_TEXT_MAX] = 'a';
    assert_int_equal(smtp_parse_xclient(&a, str_of(line), &args, NULL), SMTP_BAD_PARAMETER);
    arena_reset(&a);
    arena_init(&a, 16);
    assert_int_equal(smtp_parse_xclient(&a, str_of(line), &args, NULL), SMTP_NO_MEMORY);
    arena_reset(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
