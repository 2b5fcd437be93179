/*
 * lookup/oauth_answer: what endpoints may say, and what they must not get away with.
 */
#include "lookup/oauth_answer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOW 1000000
#define A "{\"active\":true,\"username\":\"alice\""

// clang-format off
static const struct { const char *json, *scope, *audience; enum oauth_verdict verdict; const char *login; int64_t expires_s; } answers[] = {
    { "",                                        "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { "null",                                    "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { "true",                                    "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { "[{\"active\":true}]",                     "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { "<html>",                                  "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { A,                                         "", "", OAUTH_NO_ANSWER, NULL, 0 },                  /* cut */
    { A "} x",                                   "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { "{\"username\":\"alice\"}",                "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { "{\"active\":\"true\",\"username\":\"alice\"}", "", "", OAUTH_NO_ANSWER, NULL, 0 },             /* a string is no truth */
    { "{\"active\":1,\"username\":\"alice\"}",   "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { "{\"active\":null,\"username\":\"alice\"}", "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { "{\"active\":false,\"active\":true,\"username\":\"alice\"}", "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { A ",\"exp\":\"1000001\"}",                 "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { A ",\"exp\":null}",                        "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { A ",\"exp\":1e300}",                       "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { A ",\"exp\":99999999999999999999}",        "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { A ",\"nbf\":\"now\"}",                     "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { "{\"active\":true,\"username\":\"al\xff\"}", "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { "{\"active\":false}",                      "", "", OAUTH_NOT_GOOD,  NULL, 0 },
    { "{\"active\":false,\"username\":\"alice\",\"exp\":2000000}", "", "", OAUTH_NOT_GOOD, NULL, 0 },
    { A ",\"exp\":1000000}",                     "", "", OAUTH_NOT_GOOD,  NULL, 0 },                  /* active, it says, and has expired */
    { A ",\"exp\":999999}",                      "", "", OAUTH_NOT_GOOD,  NULL, 0 },
    { A ",\"exp\":-1}",                          "", "", OAUTH_NOT_GOOD,  NULL, 0 },
    { A ",\"exp\":0}",                           "", "", OAUTH_NOT_GOOD,  NULL, 0 },
    { A ",\"nbf\":1000061}",                     "", "", OAUTH_NOT_GOOD,  NULL, 0 },
    { "{\"active\":true}",                       "", "", OAUTH_NOT_GOOD,  NULL, 0 },
    { "{\"active\":true,\"username\":\"\"}",     "", "", OAUTH_NOT_GOOD,  NULL, 0 },
    { "{\"active\":true,\"username\":7}",        "", "", OAUTH_NOT_GOOD,  NULL, 0 },
    { "{\"active\":true,\"username\":[\"alice\"]}", "", "", OAUTH_NOT_GOOD, NULL, 0 },
    { "{\"active\":true,\"username\":\"a b\"}",  "", "", OAUTH_NOT_GOOD,  NULL, 0 },
    { "{\"active\":true,\"username\":\"a\\nb\"}", "", "", OAUTH_NOT_GOOD, NULL, 0 },
    { "{\"active\":true,\"Username\":\"alice\"}", "", "", OAUTH_NOT_GOOD, NULL, 0 },
    { "{\"active\":true,\"username\":\"alice\\u0000\"}", "", "", OAUTH_NO_ANSWER, NULL, 0 },
    { A "}",                                     "mail", "", OAUTH_SCOPE_LACKS, NULL, 0 },
    { A ",\"scope\":\"\"}",                      "mail", "", OAUTH_SCOPE_LACKS, NULL, 0 },
    { A ",\"scope\":\"mailbox email\"}",         "mail", "", OAUTH_SCOPE_LACKS, NULL, 0 },
    { A ",\"scope\":\"Mail\"}",                  "mail", "", OAUTH_SCOPE_LACKS, NULL, 0 },
    { A ",\"scope\":true}",                      "mail", "", OAUTH_SCOPE_LACKS, NULL, 0 },
    { A ",\"scope\":{\"mail\":1}}",              "mail", "", OAUTH_SCOPE_LACKS, NULL, 0 },
    { A ",\"scope\":[\"mail send\"]}",           "mail", "", OAUTH_SCOPE_LACKS, NULL, 0 },
    { A ",\"scope\":\"mail\"}",                  "mail send", "", OAUTH_SCOPE_LACKS, NULL, 0 },
    { A "}",                                     "", "us", OAUTH_NOT_GOOD, NULL, 0 },
    { A ",\"aud\":\"us them\"}",                 "", "us", OAUTH_NOT_GOOD, NULL, 0 },
    { A ",\"aud\":[\"them\",7,null]}",           "", "us", OAUTH_NOT_GOOD, NULL, 0 },
    { A "}",                                     "", "", OAUTH_GOOD, "alice", INT64_MAX },
    { A ",\"exp\":1000001,\"nbf\":1000059}",     "", "", OAUTH_GOOD, "alice", 1000001 },
    { A ",\"exp\":1000001.5}",                   "", "", OAUTH_GOOD, "alice", 1000001 },
    { A ",\"scope\":\"openid  mail send\"}",     "send mail", "", OAUTH_GOOD, "alice", INT64_MAX },
    { A ",\"scope\":[\"openid\",\"mail\"]}",     "mail", "", OAUTH_GOOD, "alice", INT64_MAX },
    { A ",\"aud\":\"us\"}",                      "", "us", OAUTH_GOOD, "alice", INT64_MAX },
    { A ",\"aud\":[\"them\",\"us\"]}",           "", "us", OAUTH_GOOD, "alice", INT64_MAX },
    { "{\"active\":true,\"username\":\"\\u00e4@here.example\"}", "", "", OAUTH_GOOD, "\xc3\xa4@here.example", INT64_MAX },
};
// clang-format on

static void introspection(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct oauth_wanted wanted = { .login_claim = "username", .scope = answers[i].scope, .audience = answers[i].audience };
        struct oauth_claims claims = { .login = "untouched" };
        const char *why = NULL;
        enum oauth_verdict v = oauth_read_introspection(str_of(answers[i].json), &wanted, NOW, &claims, &why);
        if (v != answers[i].verdict)
            fail_msg("%s: %d %s", answers[i].json, v, why);
        assert_string_equal(claims.login, v == OAUTH_GOOD ? answers[i].login : "untouched");
        if (v == OAUTH_GOOD)
            assert_int_equal(claims.expires_s, answers[i].expires_s);
        else if (v == OAUTH_NO_ANSWER)
            assert_non_null(why);
        else
            assert_string_equal(oauth_why(str_of(why)), why);
    }
}

static void longest_login(void **state)
{
    char json[600], login[KEEPER_LOGIN_MAX + 2];
    struct oauth_wanted wanted = { .login_claim = "username", .scope = "", .audience = "" };
    struct oauth_claims claims;
    const char *why;

    (void)state;
    for (int more = 0; more < 2; more++) {
        memset(login, 'a', sizeof login);
        snprintf(json, sizeof json, "{\"active\":true,\"username\":\"%.*s\"}", KEEPER_LOGIN_MAX + more, login);
        assert_int_equal(oauth_read_introspection(str_of(json), &wanted, NOW, &claims, &why), more ? OAUTH_NOT_GOOD : OAUTH_GOOD);
    }
}

#define T "{\"access_token\":\"at-1\",\"token_type\":\"Bearer\""

// clang-format off
static const struct { unsigned status; const char *json; enum oauth_granted granted; const char *access, *refresh; int64_t lifetime_s; const char *error; } grants[] = {
    { 200, "",                                     OAUTH_NOT_NOW, NULL, NULL, 0, "no JSON" },
    { 502, "<html>",                               OAUTH_NOT_NOW, NULL, NULL, 0, "502" },
    { 200, "{}",                                   OAUTH_NOT_NOW, NULL, NULL, 0, "access_token" },
    { 200, "{\"access_token\":\"a b\",\"token_type\":\"Bearer\"}", OAUTH_NOT_NOW, NULL, NULL, 0, "access_token" },
    { 200, "{\"access_token\":\"a\\u0001\",\"token_type\":\"Bearer\"}", OAUTH_NOT_NOW, NULL, NULL, 0, "access_token" },
    { 200, "{\"access_token\":\"\",\"token_type\":\"Bearer\"}", OAUTH_NOT_NOW, NULL, NULL, 0, "access_token" },
    { 200, "{\"access_token\":7,\"token_type\":\"Bearer\"}", OAUTH_NOT_NOW, NULL, NULL, 0, "access_token" },
    { 200, "{\"access_token\":\"a\"}",             OAUTH_NOT_NOW, NULL, NULL, 0, "bearer" },
    { 200, "{\"access_token\":\"a\",\"token_type\":\"mac\"}", OAUTH_NOT_NOW, NULL, NULL, 0, "bearer" },
    { 200, T ",\"refresh_token\":\"a\\nb\"}",      OAUTH_NOT_NOW, NULL, NULL, 0, "refresh_token" },
    { 200, T ",\"refresh_token\":[]}",             OAUTH_NOT_NOW, NULL, NULL, 0, "refresh_token" },
    { 400, T "}",                                  OAUTH_NOT_NOW, NULL, NULL, 0, "400" },
    { 201, T "}",                                  OAUTH_NOT_NOW, NULL, NULL, 0, "201" },
    { 400, "{\"error\":\"invalid_client\"}",       OAUTH_NOT_NOW, NULL, NULL, 0, "400 invalid_client" },
    { 400, "{\"error\":\"x\",\"error_description\":\"a\\r\\nb\\u001b\"}", OAUTH_NOT_NOW, NULL, NULL, 0, "400 x: a??b?" },
    { 400, "{\"error\":[\"invalid_grant\"]}",      OAUTH_NOT_NOW, NULL, NULL, 0, "400" },
    { 503, "{\"error\":\"temporarily_unavailable\",\"error_description\":\"later\"}", OAUTH_NOT_NOW, NULL, NULL, 0, "503 temporarily_unavailable: later" },
    { 400, "{\"error\":\"invalid_grant\",\"error_description\":\"revoked\"}", OAUTH_DENIED, NULL, NULL, 0, "invalid_grant: revoked" },
    { 200, "{\"error\":\"invalid_grant\"}",        OAUTH_NOT_NOW, NULL, NULL, 0, "access_token" },
    { 200, T "}",                                  OAUTH_GRANTED, "at-1", "", 0, NULL },
    { 200, T ",\"expires_in\":3599,\"refresh_token\":\"r/2+=\",\"scope\":\"x\"}", OAUTH_GRANTED, "at-1", "r/2+=", 3599, NULL },
    { 200, T ",\"expires_in\":\"3599\",\"refresh_token\":null}", OAUTH_GRANTED, "at-1", "", 3599, NULL },
    { 200, T ",\"expires_in\":-5}",                OAUTH_GRANTED, "at-1", "", 0, NULL },
    { 200, T ",\"expires_in\":1e30}",              OAUTH_GRANTED, "at-1", "", INT32_MAX, NULL },
    { 200, T ",\"expires_in\":{}}",                OAUTH_GRANTED, "at-1", "", 0, NULL },
    { 200, "{\"access_token\":\"a\",\"token_type\":\"bearer\"}", OAUTH_GRANTED, "a", "", 0, NULL },
};
// clang-format on

static void granting(void **state)
{
    struct oauth_grant *g = malloc(sizeof *g);

    (void)state;
    for (size_t i = 0; i < sizeof grants / sizeof *grants; i++) {
        char error[256] = "";
        enum oauth_granted granted = oauth_read_grant(grants[i].status, str_of(grants[i].json), g, error);
        if (granted != grants[i].granted || (grants[i].error != NULL && strstr(error, grants[i].error) == NULL))
            fail_msg("%u %s: %d %s", grants[i].status, grants[i].json, granted, error);
        if (granted != OAUTH_GRANTED)
            continue;
        assert_string_equal(g->access, grants[i].access);
        assert_string_equal(g->refresh, grants[i].refresh);
        assert_int_equal(g->lifetime_s, grants[i].lifetime_s);
    }
    free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(introspection), cmocka_unit_test(longest_login), cmocka_unit_test(granting) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
