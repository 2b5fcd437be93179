/*
 * SASL: the examples of the RFCs, both ends against each other, and what neither may take.
 */
#include "base/codec.h"
#include "base/scram.h"
#include "smtp/sasl.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct arena arena;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, SASL_ARENA_MAX);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_reset(&arena);
    return 0;
}

#define S(literal) STR(literal)
#define B(literal) { literal, sizeof(literal) - 1 }
#define OK_LIST { .type = NULL }

/* -- the server, first messages ---------------------------------------------------------------------------------------------- */

static const struct { enum sasl_mechanism m; struct str in; enum sasl_step step; const char *login, *secret; } firsts[] = {
    { SASL_PLAIN, B("\0tim\0tanstaaftanstaaf"),            SASL_ASK_PASSWORD, "tim", "tanstaaftanstaaf" },   /* RFC 4616, 4 */
    { SASL_PLAIN, B("Ursel\0Kurt\0xipj3plmq"),             SASL_REFUSED,   NULL, NULL },                      /* likewise: for another */
    { SASL_PLAIN, B("TIM\0tim\0x"),                         SASL_ASK_PASSWORD, "tim", "x" },
    { SASL_PLAIN, B(""),                                    SASL_MALFORMED, NULL, NULL },
    { SASL_PLAIN, B("\0tim"),                               SASL_MALFORMED, NULL, NULL },
    { SASL_PLAIN, B("\0tim\0"),                             SASL_MALFORMED, NULL, NULL },
    { SASL_PLAIN, B("\0\0x"),                               SASL_MALFORMED, NULL, NULL },
    { SASL_PLAIN, B("\0tim\0x\0"),                          SASL_MALFORMED, NULL, NULL },
    { SASL_PLAIN, B("\0t\nm\0x"),                           SASL_MALFORMED, NULL, NULL },
    { SASL_PLAIN, B("\0tim\0\xff"),                         SASL_MALFORMED, NULL, NULL },
    { SASL_PLAIN, B("\0tim\0\xc2\x85"),                     SASL_MALFORMED, NULL, NULL },                      /* a C1 control */
    { SASL_PLAIN, B("\0t\xc3\xaf\0p\xc3\xa4ss"),           SASL_ASK_PASSWORD, "t\xc3\xaf", "p\xc3\xa4ss" },
    { SASL_SCRAM_SHA_256, B("n,,n=user,r=abc"),            SASL_ASK_SALT,  "user", NULL },
    { SASL_SCRAM_SHA_256, B("y,,n=user,r=abc"),            SASL_ASK_SALT,  "user", NULL },
    { SASL_SCRAM_SHA_256, B("n,,n=a=2Cb=3Dc,r=abc"),       SASL_ASK_SALT,  "a,b=c", NULL },
    { SASL_SCRAM_SHA_256, B("n,a=user,n=user,r=abc"),      SASL_ASK_SALT,  "user", NULL },
    { SASL_SCRAM_SHA_256, B("n,,n=user,r=abc,x=more"),     SASL_ASK_SALT,  "user", NULL },                    /* an extension to pass over */
    { SASL_SCRAM_SHA_256, B("n,a=root,n=user,r=abc"),      SASL_REFUSED,   NULL, NULL },
    { SASL_SCRAM_SHA_256, B("n,,m=x,n=user,r=abc"),        SASL_MALFORMED, NULL, NULL },                      /* one that must be known */
    { SASL_SCRAM_SHA_256, B("p=tls-exporter,,n=user,r=abc"), SASL_MALFORMED, NULL, NULL },
    { SASL_SCRAM_SHA_256, B("n,,n=us=2cer,r=abc"),         SASL_MALFORMED, NULL, NULL },
    { SASL_SCRAM_SHA_256, B("n,,n=user=,r=abc"),           SASL_MALFORMED, NULL, NULL },
    { SASL_SCRAM_SHA_256, B("n,,n=,r=abc"),                SASL_MALFORMED, NULL, NULL },
    { SASL_SCRAM_SHA_256, B("n,,n=user,r="),               SASL_MALFORMED, NULL, NULL },
    { SASL_SCRAM_SHA_256, B("n,,n=user,r=a\x01"),          SASL_MALFORMED, NULL, NULL },
    { SASL_SCRAM_SHA_256, B("n,,n=user"),                   SASL_MALFORMED, NULL, NULL },
    { SASL_SCRAM_SHA_256, B("n,,r=abc,n=user"),            SASL_MALFORMED, NULL, NULL },
    { SASL_SCRAM_SHA_256, B("n,n=user,r=abc"),             SASL_MALFORMED, NULL, NULL },
    { SASL_SCRAM_SHA_256, B("n,a=,n=user,r=abc"),          SASL_MALFORMED, NULL, NULL },
    { SASL_SCRAM_SHA_256, B("z,,n=user,r=abc"),            SASL_MALFORMED, NULL, NULL },
    { SASL_SCRAM_SHA_256, B(""),                            SASL_MALFORMED, NULL, NULL },
    { SASL_SCRAM_SHA_256_PLUS, B("n,,n=user,r=abc"),       SASL_MALFORMED, NULL, NULL },
    { SASL_SCRAM_SHA_256_PLUS, B("p=,,n=user,r=abc"),      SASL_MALFORMED, NULL, NULL },
    { SASL_SCRAM_SHA_256_PLUS, B("p=tls-unique,,n=user,r=abc"), SASL_REFUSED, NULL, NULL },
    { SASL_OAUTHBEARER, B("n,a=user@example.com,\1host=server.example.com\1port=143\1auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\1\1"),
                                                                SASL_ASK_TOKEN, "user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==" },   /* RFC 7628, 4.1 */
    { SASL_OAUTHBEARER, B("n,,\1auth=Bearer x\1\1"),       SASL_ASK_TOKEN, "", "x" },
    { SASL_OAUTHBEARER, B("n,,\1auth=Basic x\1\1"),        SASL_MALFORMED, NULL, NULL },
    { SASL_OAUTHBEARER, B("n,,\1auth=Bearer x\1"),         SASL_MALFORMED, NULL, NULL },
    { SASL_OAUTHBEARER, B("n,,\1auth=Bearer x\1\1y"),      SASL_MALFORMED, NULL, NULL },
    { SASL_OAUTHBEARER, B("n,,\1auth=Bearer x\1auth=Bearer y\1\1"), SASL_MALFORMED, NULL, NULL },
    { SASL_OAUTHBEARER, B("n,,\1host=x\1\1"),              SASL_MALFORMED, NULL, NULL },
    { SASL_OAUTHBEARER, B("n,,"),                           SASL_MALFORMED, NULL, NULL },
    { SASL_OAUTHBEARER, B("n,,\1auth=Bearer a b\1\1"),     SASL_MALFORMED, NULL, NULL },
    { SASL_XOAUTH2, B("user=someuser@example.com\1auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\1\1"),
                                                                SASL_ASK_TOKEN, "someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg" },
    { SASL_XOAUTH2, B("auth=Bearer x\1\1"),                SASL_MALFORMED, NULL, NULL },
    { SASL_XOAUTH2, B("user=x\1\1"),                        SASL_MALFORMED, NULL, NULL },
    { SASL_XOAUTH2, B("user\1auth=Bearer x\1\1"),          SASL_MALFORMED, NULL, NULL },
    { SASL_XOAUTH2, B("user=x\1user=y\1auth=Bearer x\1\1"), SASL_MALFORMED, NULL, NULL },      /* which of the two? */
    { SASL_XOAUTH2, B("user=x\1=y\1auth=Bearer x\1\1"),   SASL_MALFORMED, NULL, NULL },
    { SASL_XOAUTH2, B("user=x\1h=\0\1auth=Bearer x\1\1"), SASL_MALFORMED, NULL, NULL },
    { SASL_XOAUTH2, B("user=x\n\1auth=Bearer x\1\1"),      SASL_MALFORMED, NULL, NULL },
    { SASL_XOAUTH2, B("user=x\1auth=Bearer \1\1"),         SASL_MALFORMED, NULL, NULL },
    { SASL_XOAUTH2, B("user=x\1auth=Bearer x"),             SASL_MALFORMED, NULL, NULL },
    { SASL_XOAUTH2, B("\1"),                                SASL_MALFORMED, NULL, NULL },
    { SASL_XOAUTH2, B(""),                                  SASL_MALFORMED, NULL, NULL },
    { SASL_OAUTHBEARER, B(""),                              SASL_MALFORMED, NULL, NULL },
    { SASL_OAUTHBEARER, B("\1"),                            SASL_MALFORMED, NULL, NULL },
    { SASL_OAUTHBEARER, B("n,a=x,\1\1"),                    SASL_MALFORMED, NULL, NULL },
    { SASL_OAUTHBEARER, B("n,a=,\1auth=Bearer x\1\1"),     SASL_MALFORMED, NULL, NULL },
    { SASL_OAUTHBEARER, B("n,a=x=2,\1auth=Bearer x\1\1"),  SASL_MALFORMED, NULL, NULL },
    { SASL_OAUTHBEARER, B("p=tls-exporter,,\1auth=Bearer x\1\1"), SASL_MALFORMED, NULL, NULL },
    { SASL_OAUTHBEARER, B("user=x\1auth=Bearer x\1\1"),    SASL_MALFORMED, NULL, NULL },
    { SASL_OAUTHBEARER, B("n,,\1a-b=c\1auth=Bearer x\1\1"), SASL_MALFORMED, NULL, NULL },
};

static void first_messages(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
        static const struct sasl_binding bindings[] = { { "tls-exporter", { "12345", 5 } }, OK_LIST };
        struct sasl_server s;
        sasl_server_init(&s, &arena, firsts[i].m, firsts[i].m == SASL_SCRAM_SHA_256_PLUS ? bindings : NULL, S("server-nonce-12345"));
        enum sasl_step step = sasl_server_take(&s, firsts[i].in);
        if (step != firsts[i].step)
            fail_msg("case %zu: step %d, %s", i, step, s.why);
        if (firsts[i].login != NULL && !str_eq(s.login, str_of(firsts[i].login)))
            fail_msg("case %zu: login \"%.*s\"", i, (int)s.login.n, s.login.p);
        if (firsts[i].secret != NULL && !str_eq(step == SASL_ASK_TOKEN ? s.token : s.password, str_of(firsts[i].secret)))
            fail_msg("case %zu: secret", i);
        arena_reset(&arena);
    }
}

static void too_long(void **state)
{
    static char bytes[SASL_RESPONSE_MAX + 1];
    struct sasl_server s;

    (void)state;
    memset(bytes, 'x', sizeof bytes);
    for (enum sasl_mechanism m = 0; m < SASL_MECHANISMS; m++)
        for (size_t n = sizeof bytes - 1; n <= sizeof bytes; n++) {
            sasl_server_init(&s, &arena, m, NULL, S("nonce"));
            assert_int_equal(sasl_server_take(&s, (struct str){ bytes, n }), SASL_MALFORMED);
        }
    bytes[0] = bytes[SASL_LOGIN_MAX + 1] = '\0';
    sasl_server_init(&s, &arena, SASL_PLAIN, NULL, S(""));
    assert_int_equal(sasl_server_take(&s, (struct str){ bytes, SASL_LOGIN_MAX + 2 + SASL_PASSWORD_MAX }), SASL_ASK_PASSWORD);
    assert_int_equal(sasl_server_take(&s, (struct str){ bytes, SASL_LOGIN_MAX + 3 + SASL_PASSWORD_MAX }), SASL_MALFORMED);
}

/* -- LOGIN ------------------------------------------------------------------------------------------------------------------- */

static void login(void **state)
{
    struct sasl_server s;
    struct sasl_client c;

    (void)state;
    sasl_server_init(&s, &arena, SASL_LOGIN, NULL, S(""));
    sasl_client_init(&c, &arena, SASL_LOGIN, S("tim"), S("pencil"), NULL, S(""));
    assert_int_equal(sasl_client_start(&c), SASL_SEND);
    assert_false(c.has_initial);
    assert_int_equal(sasl_server_start(&s), SASL_CHALLENGE);
    assert_true(str_eq(s.out, S("Username:")));
    assert_int_equal(sasl_client_take(&c, s.out), SASL_SEND);
    assert_int_equal(sasl_server_take(&s, c.out), SASL_CHALLENGE);
    assert_true(str_eq(s.out, S("Password:")));
    assert_int_equal(sasl_client_take(&c, s.out), SASL_SEND);
    assert_true(c.satisfied);
    assert_int_equal(sasl_server_take(&s, c.out), SASL_ASK_PASSWORD);
    assert_true(str_eq(s.login, S("tim")) && str_eq(s.password, S("pencil")));
    assert_int_equal(sasl_server_answer(&s, true, NULL), SASL_DONE);
    assert_int_equal(sasl_server_answer(&s, false, NULL), SASL_REFUSED);
    assert_int_equal(sasl_client_take(&c, S("more?")), SASL_GIVE_UP);
    sasl_server_init(&s, &arena, SASL_LOGIN, NULL, S(""));
    assert_int_equal(sasl_server_take(&s, S("")), SASL_MALFORMED);
}

/* -- SCRAM ------------------------------------------------------------------------------------------------------------------- */

static struct str salt_of(const char *base64)
{
    static char bytes[64];
    struct buf b;

    buf_init_fixed(&b, bytes, sizeof bytes);
    assert_true(codec_base64(str_of(base64), &b));
    return buf_str(&b);
}

#define CNONCE "rOprNGfwEbeRWgbNEkqO"
#define SNONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"

/* RFC 7677, 3, to the byte, from both sides. */
static void scram_example(void **state)
{
    struct sasl_server s;
    struct sasl_client c;
    struct scram_keys keys;
    uint8_t signature[DIGEST_SHA256_LEN];

    (void)state;
    sasl_server_init(&s, &arena, SASL_SCRAM_SHA_256, NULL, S(SNONCE));
    sasl_client_init(&c, &arena, SASL_SCRAM_SHA_256, S("user"), S("pencil"), NULL, S(CNONCE));
    assert_int_equal(sasl_client_start(&c), SASL_SEND);
    assert_true(c.has_initial && str_eq(c.out, S("n,,n=user,r=" CNONCE)));
    assert_int_equal(sasl_server_take(&s, c.out), SASL_ASK_SALT);
    struct str salt = salt_of("W22ZaJ0SNY7soEsUEjb6gQ==");
    assert_int_equal(sasl_server_salt(&s, salt, 4096), SASL_CHALLENGE);
    assert_true(str_eq(s.out, S("r=" CNONCE SNONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")));
    assert_int_equal(sasl_client_take(&c, s.out), SASL_SEND);
    assert_true(str_eq(c.out, S("c=biws,r=" CNONCE SNONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")));
    assert_false(c.satisfied);
    assert_int_equal(sasl_server_take(&s, c.out), SASL_ASK_PROOF);
    scram_derive(S("pencil"), salt, 4096, &keys);
    assert_true(scram_check(&keys, s.message, s.proof, signature));
    assert_int_equal(sasl_server_answer(&s, true, signature), SASL_CHALLENGE);
    assert_true(str_eq(s.out, S("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")));
    assert_int_equal(sasl_client_take(&c, s.out), SASL_SEND);
    assert_true(c.satisfied && c.out.n == 0);
    assert_int_equal(sasl_server_take(&s, c.out), SASL_DONE);
}

/* Both ends with these bindings; the step with which the server ends. */
static enum sasl_step meet(enum sasl_mechanism m, const struct sasl_binding *server_has, const struct sasl_binding *client_has)
{
    struct sasl_server s;
    struct sasl_client c;
    struct scram_keys keys;
    uint8_t signature[DIGEST_SHA256_LEN];

    sasl_server_init(&s, &arena, m, server_has, S(SNONCE));
    sasl_client_init(&c, &arena, m, S("us,er=x"), S("pencil"), client_has, S(CNONCE));
    assert_int_equal(sasl_client_start(&c), SASL_SEND);
    enum sasl_step step = sasl_server_take(&s, c.out);
    if (step != SASL_ASK_SALT)
        return step;
    assert_true(str_eq(s.login, S("us,er=x")));
    assert_int_equal(sasl_server_salt(&s, S("some salt"), 4096), SASL_CHALLENGE);
    assert_int_equal(sasl_client_take(&c, s.out), SASL_SEND);
    step = sasl_server_take(&s, c.out);
    if (step != SASL_ASK_PROOF)
        return step;
    scram_derive(S("pencil"), S("some salt"), 4096, &keys);
    step = sasl_server_answer(&s, scram_check(&keys, s.message, s.proof, signature), signature);
    if (step != SASL_CHALLENGE)
        return step;
    assert_int_equal(sasl_client_take(&c, s.out), SASL_SEND);
    return sasl_server_take(&s, c.out);
}

static void channel_binding(void **state)
{
    static const struct sasl_binding exporter[] = { { "tls-exporter", { "a\0b,=", 5 } }, { "tls-server-end-point", { "hash", 4 } }, OK_LIST };
    static const struct sasl_binding other[] = { { "tls-exporter", { "a\0c,=", 5 } }, OK_LIST };
    static const struct sasl_binding end_point[] = { { "tls-server-end-point", { "hash", 4 } }, OK_LIST };
    static const struct sasl_binding unique[] = { { "tls-unique", { "a\0b,=", 5 } }, OK_LIST };

    (void)state;
    assert_int_equal(meet(SASL_SCRAM_SHA_256_PLUS, exporter, exporter), SASL_DONE);
    assert_int_equal(meet(SASL_SCRAM_SHA_256_PLUS, exporter, end_point), SASL_DONE);
    assert_int_equal(meet(SASL_SCRAM_SHA_256_PLUS, exporter, other), SASL_REFUSED);      /* somebody in the middle */
    assert_int_equal(meet(SASL_SCRAM_SHA_256_PLUS, exporter, unique), SASL_REFUSED);
    assert_int_equal(meet(SASL_SCRAM_SHA_256, NULL, NULL), SASL_DONE);
    assert_int_equal(meet(SASL_SCRAM_SHA_256, exporter, NULL), SASL_DONE);
    assert_int_equal(meet(SASL_SCRAM_SHA_256, NULL, exporter), SASL_DONE);               /* "y": and it is true */
    assert_int_equal(meet(SASL_SCRAM_SHA_256, exporter, exporter), SASL_REFUSED);        /* "y", and we had offered it */
}

static void final_messages(void **state)
{
#define PROOF ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    static const struct { const char *text; enum sasl_step step; } cases[] = {
        { "c=biws,r=" CNONCE SNONCE PROOF,              SASL_ASK_PROOF },
        { "c=biws,r=" CNONCE SNONCE ",x=more" PROOF,    SASL_ASK_PROOF },
        { "c=eSws,r=" CNONCE SNONCE PROOF,              SASL_REFUSED   },     /* "y,," now, "n,," before */
        { "c=biws,r=" CNONCE PROOF,                     SASL_REFUSED   },
        { "c=biws,r=" CNONCE SNONCE "x" PROOF,          SASL_REFUSED   },
        { "c=biws,r=" CNONCE SNONCE,                    SASL_MALFORMED },
        { "c=biws,r=" CNONCE SNONCE ",p=",              SASL_MALFORMED },
        { "c=biws,r=" CNONCE SNONCE ",p=AAAA",          SASL_MALFORMED },
        { "c=biws,r=" CNONCE SNONCE PROOF ",x=y",       SASL_MALFORMED },
        { "c=biws,r=" CNONCE SNONCE PROOF "=",          SASL_MALFORMED },
        { "c=bi ws,r=" CNONCE SNONCE PROOF,             SASL_MALFORMED },
        { "r=" CNONCE SNONCE ",c=biws" PROOF,           SASL_MALFORMED },
        { "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SASL_MALFORMED },
        { "",                                           SASL_MALFORMED },
        { ",",                                          SASL_MALFORMED },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sasl_server s;
        sasl_server_init(&s, &arena, SASL_SCRAM_SHA_256, NULL, S(SNONCE));
        assert_int_equal(sasl_server_take(&s, S("n,,n=user,r=" CNONCE)), SASL_ASK_SALT);
        assert_int_equal(sasl_server_salt(&s, S("salt"), 4096), SASL_CHALLENGE);
        enum sasl_step step = sasl_server_take(&s, str_of(cases[i].text));
        if (step != cases[i].step)
            fail_msg("%s: step %d, %s", cases[i].text, step, s.why);
        if (step == SASL_ASK_PROOF)
            assert_int_equal(sasl_server_answer(&s, false, NULL), SASL_REFUSED);
        arena_reset(&arena);
    }
    uint8_t signature[DIGEST_SHA256_LEN] = { 0 };
    struct sasl_server s;
    sasl_server_init(&s, &arena, SASL_SCRAM_SHA_256, NULL, S(SNONCE));
    assert_int_equal(sasl_server_take(&s, S("n,,n=user,r=" CNONCE)), SASL_ASK_SALT);
    assert_int_equal(sasl_server_salt(&s, S("salt"), 4096), SASL_CHALLENGE);
    assert_int_equal(sasl_server_take(&s, S("c=biws,r=" CNONCE SNONCE PROOF)), SASL_ASK_PROOF);
    assert_int_equal(sasl_server_answer(&s, true, signature), SASL_CHALLENGE);
    assert_int_equal(sasl_server_take(&s, S("x")), SASL_MALFORMED);
}

/* What a server says that is none, or not the one that knows the password. */
static void false_servers(void **state)
{
    static const struct { const char *first, *final; } cases[] = {
        { "r=" CNONCE SNONCE ",s=c2FsdA==,i=4096", "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" },
        { "r=" CNONCE SNONCE ",s=c2FsdA==,i=4096", "e=invalid-proof" },
        { "r=" CNONCE SNONCE ",s=c2FsdA==,i=4096", "" },
        { "r=" CNONCE SNONCE ",s=c2FsdA==,i=4095", NULL },
        { "r=" CNONCE SNONCE ",s=c2FsdA==,i=1000001", NULL },
        { "r=" CNONCE SNONCE ",s=c2FsdA==,i=99999999999999999999", NULL },
        { "r=" CNONCE SNONCE ",s=c2FsdA==,i=-1", NULL },
        { "r=" CNONCE SNONCE ",s=,i=4096", NULL },
        { "r=" CNONCE SNONCE ",s=c2FsdA,i=4096", NULL },
        { "r=" CNONCE ",s=c2FsdA==,i=4096", NULL },
        { "r=other" SNONCE ",s=c2FsdA==,i=4096", NULL },
        { "m=x,r=" CNONCE SNONCE ",s=c2FsdA==,i=4096", NULL },
        { "e=other-error", NULL },
        { "", NULL },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sasl_client c;
        sasl_client_init(&c, &arena, SASL_SCRAM_SHA_256, S("user"), S("pencil"), NULL, S(CNONCE));
        assert_int_equal(sasl_client_start(&c), SASL_SEND);
        enum sasl_reaction r = sasl_client_take(&c, str_of(cases[i].first));
        assert_int_equal(r, cases[i].final == NULL ? SASL_GIVE_UP : SASL_SEND);
        if (cases[i].final != NULL)
            assert_int_equal(sasl_client_take(&c, str_of(cases[i].final)), SASL_GIVE_UP);
        assert_false(c.satisfied);
        arena_reset(&arena);
    }
}

/* -- the rest ---------------------------------------------------------------------------------------------------------------- */

static void refused_tokens(void **state)
{
    struct sasl_server s;

    (void)state;
    for (enum sasl_mechanism m = SASL_OAUTHBEARER; m <= SASL_XOAUTH2; m++) {
        struct str first = m == SASL_XOAUTH2 ? S("user=x\1auth=Bearer t\1\1") : S("n,a=x,\1auth=Bearer t\1\1");
        sasl_server_init(&s, &arena, m, NULL, S(""));
        assert_int_equal(sasl_server_take(&s, first), SASL_ASK_TOKEN);
        assert_int_equal(sasl_server_answer(&s, true, NULL), SASL_DONE);
        assert_int_equal(sasl_server_answer(&s, false, NULL), SASL_CHALLENGE);
        assert_true(str_starts(s.out, S("{\"status\":")));
        assert_int_equal(sasl_server_take(&s, m == SASL_XOAUTH2 ? S("") : S("\1")), SASL_REFUSED);
    }
}

static void refused_tokens_say_what_is_lacking(void **state)
{
    static const struct { enum sasl_mechanism m; bool lacks; const char *scope, *says; } says[] = {
        { SASL_OAUTHBEARER, false, "",          "{\"status\":\"invalid_token\"}" },
        { SASL_OAUTHBEARER, true,  "mail send", "{\"status\":\"insufficient_scope\",\"scope\":\"mail send\"}" },
        { SASL_XOAUTH2,     false, "mail",      "{\"status\":\"401\",\"schemes\":\"bearer\",\"scope\":\"mail\"}" },
        { SASL_XOAUTH2,     true,  "",          "{\"status\":\"403\",\"schemes\":\"bearer\"}" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        struct sasl_server s;
        sasl_server_init(&s, &arena, says[i].m, NULL, S(""));
        s.scope = str_of(says[i].scope);
        s.scope_lacks = says[i].lacks;
        assert_int_equal(sasl_server_answer(&s, false, NULL), SASL_CHALLENGE);
        assert_true(str_eq(s.out, str_of(says[i].says)));
        arena_reset(&arena);
    }
}

static void clients_with_tokens(void **state)
{
    static const struct { enum sasl_mechanism m; const char *login, *token, *says; } says[] = {
        { SASL_OAUTHBEARER, "a,b=c@x.example", "t/1+=", "n,a=a=2Cb=3Dc@x.example,\1auth=Bearer t/1+=\1\1" },
        { SASL_XOAUTH2,     "a@x.example",     "t.1",   "user=a@x.example\1auth=Bearer t.1\1\1" },
        { SASL_XOAUTH2,     "a\1b",            "t.1",   NULL },
        { SASL_XOAUTH2,     "a",               "t\1",   NULL },
        { SASL_XOAUTH2,     "a",               "",      NULL },
        { SASL_OAUTHBEARER, "",                "t",     NULL },
    };

    (void)state;
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        struct sasl_client c;
        sasl_client_init(&c, &arena, says[i].m, str_of(says[i].login), str_of(says[i].token), NULL, S(""));
        assert_int_equal(sasl_client_start(&c), says[i].says == NULL ? SASL_GIVE_UP : SASL_SEND);
        if (says[i].says == NULL)
            continue;
        assert_true(str_eq(c.out, str_of(says[i].says)) && c.has_initial && c.satisfied);
        assert_int_equal(sasl_client_take(&c, S("{\"status\":\"401\"}")), SASL_SEND);
        assert_true(str_eq(c.out, says[i].m == SASL_OAUTHBEARER ? S("\1") : S("")) && !c.satisfied);
        assert_int_equal(sasl_client_take(&c, S("more")), SASL_GIVE_UP);
        arena_reset(&arena);
    }
}

static void clients_of_bad_credentials(void **state)
{
    struct sasl_client c;

    (void)state;
    sasl_client_init(&c, &arena, SASL_PLAIN, S("user"), S(""), NULL, S(""));
    assert_int_equal(sasl_client_start(&c), SASL_GIVE_UP);
    sasl_client_init(&c, &arena, SASL_PLAIN, S("us\nr"), S("x"), NULL, S(""));
    assert_int_equal(sasl_client_start(&c), SASL_GIVE_UP);
    sasl_client_init(&c, &arena, SASL_PLAIN, S("tim"), S("tanstaaftanstaaf"), NULL, S(""));
    assert_int_equal(sasl_client_start(&c), SASL_SEND);
    assert_true(c.has_initial && c.satisfied && str_eq(c.out, S("\0tim\0tanstaaftanstaaf")));
    assert_int_equal(sasl_client_take(&c, S("")), SASL_GIVE_UP);
}

static void without_memory(void **state)
{
    (void)state;
    for (size_t limit = 0; limit < 2000; limit += 16) {
        struct arena small;
        struct sasl_server s;
        struct sasl_client c;
        arena_init(&small, limit);
        sasl_server_init(&s, &small, SASL_SCRAM_SHA_256, NULL, S(SNONCE));
        enum sasl_step step = sasl_server_take(&s, S("n,,n=user,r=" CNONCE));
        if (step == SASL_ASK_SALT)
            step = sasl_server_salt(&s, S("salt"), 4096);
        if (step == SASL_CHALLENGE)
            step = sasl_server_take(&s, S("c=biws,r=" CNONCE SNONCE PROOF));
        assert_true(step == SASL_NO_MEMORY || (step == SASL_ASK_PROOF && !arena_failed(&small)));
        arena_reset(&small);
        sasl_client_init(&c, &small, SASL_SCRAM_SHA_256, S("user"), S("x"), NULL, S(CNONCE));
        if (sasl_client_start(&c) == SASL_GIVE_UP || sasl_client_take(&c, S("r=" CNONCE SNONCE ",s=c2FsdA==,i=4096")) == SASL_GIVE_UP)
            assert_true(arena_failed(&small));
        arena_reset(&small);
    }
}

static void names(void **state)
{
    enum sasl_mechanism m, found;

    (void)state;
    for (m = 0; m < SASL_MECHANISMS; m++)
        assert_true(sasl_find(str_of(sasl_name(m)), &found) && found == m);
    assert_true(sasl_find(S("scram-sha-256-plus"), &found) && found == SASL_SCRAM_SHA_256_PLUS);
    assert_false(sasl_find(S("CRAM-MD5"), &found));
    assert_false(sasl_find(S(""), &found));
    assert_false(sasl_find(S("PLAINX"), &found));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_messages), cmocka_unit_test(too_long),       cmocka_unit_test(login),
        cmocka_unit_test(scram_example),  cmocka_unit_test(channel_binding), cmocka_unit_test(final_messages),
        cmocka_unit_test(false_servers),  cmocka_unit_test(refused_tokens),
                                        cmocka_unit_test(refused_tokens_say_what_is_lacking), cmocka_unit_test(clients_with_tokens), cmocka_unit_test(clients_of_bad_credentials),
        cmocka_unit_test(without_memory), cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
