/*
 * lookup/token_check in the simulated world, with an endpoint that says what a test wants: what is a verdict, what is trouble, and what is
 * remembered for how long.
 */
#include "lookup/token_check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "run/file.h"
#include "run/https.h"
#include "run/sim_internal.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define GOOD "{\"active\":true,\"username\":\"alice\",\"scope\":\"mail\"}"

static struct endpoint {
    int         error;                   /* instead of an answer */
    unsigned    status;
    const char *says;
    int64_t     takes_ns;
    unsigned    asked;
    char        form[512], user[128], password[128];
} endpoint;

static int post(void *self, const struct https_request *r, unsigned *out_status, struct buf *out_body, char error[HTTPS_ERROR_MAX])
{
    struct endpoint *e = self;

    e->asked++;
    snprintf(e->form, sizeof e->form, "%.*s", (int)r->form.n, r->form.p);
    snprintf(e->user, sizeof e->user, "%s", r->user == NULL ? "(none)" : r->user);
    snprintf(e->password, sizeof e->password, "%s", r->password == NULL ? "(none)" : r->password);
    if (e->takes_ns > 0)
        sim_spend(e->takes_ns);
    snprintf(error, HTTPS_ERROR_MAX, "planted");
    if (e->error < 0)
        return e->error;
    *out_status = e->status;
    buf_put_z(out_body, e->says);
    return 0;
}

static struct conf conf_of_test(void)
{
    return (struct conf){ .has_oauth = true, .oauth_introspection_url = "https://192.0.2.1/check", .oauth_client_id = "", .oauth_login_claim = "username",
                          .oauth_scope = "", .oauth_audience = "", .oauth_ca_file = "", .oauth_timeout_ns = 5 * NS_PER_S,
                          .oauth_cache_time_ns = 300 * NS_PER_S, .oauth_checks_max = 1, .oauth_checks_waiting_max = 1 };
}

static void begin(struct conf *c, const char *says)
{
    endpoint = (struct endpoint){ .status = 200, .says = says };
    https_replace(post, &endpoint);
    assert_int_equal(lookup_tokens_start(c), 0);
}

static void end(void)
{
    lookup_tokens_stop();
    https_replace(NULL, NULL);
}

static enum keeper_verdict check(const struct conf *c, const char *token, const char *login)
{
    struct token_answer answer = { .login = "untouched" };

    enum keeper_verdict v = lookup_token_check(c, str_of(token), str_of(login), &answer);
    if (v == KEEPER_YES)
        assert_string_equal(answer.login, "alice");
    if (v == KEEPER_NO)
        assert_non_null(answer.why);
    return v;
}

// clang-format off
static const struct answer_case { const char *name; int error; unsigned status; const char *says, *login, *scope; enum keeper_verdict verdict; } answers[] = {
    { "nothing comes",              -ETIMEDOUT,    0,   "",    "",      "",     KEEPER_TROUBLE },
    { "nobody is there",            -ECONNREFUSED, 0,   "",    "",      "",     KEEPER_TROUBLE },
    { "a false certificate",        -EACCES,       0,   "",    "",      "",     KEEPER_TROUBLE },
    { "too much",                   -EMSGSIZE,     0,   "",    "",      "",     KEEPER_TROUBLE },
    { "good words with a 500",      0,             500, GOOD,  "",      "",     KEEPER_TROUBLE },
    { "we may not ask",             0,             401, "{\"active\":false}", "", "", KEEPER_TROUBLE },
    { "go elsewhere",               0,             302, GOOD,  "",      "",     KEEPER_TROUBLE },
    { "no JSON",                    0,             200, "yes", "",      "",     KEEPER_TROUBLE },
    { "an empty object",            0,             200, "{}",  "",      "",     KEEPER_TROUBLE },
    { "inactive",                   0,             200, "{\"active\":false}", "", "", KEEPER_NO },
    { "expired, says our clock",    0,             200, "{\"active\":true,\"username\":\"alice\",\"exp\":1}", "", "", KEEPER_NO },
    { "another's",                  0,             200, GOOD,  "bob",   "",     KEEPER_NO },
    { "for something else",         0,             200, GOOD,  "",      "send", KEEPER_NO },
    { "whosever it is",             0,             200, GOOD,  "",      "",     KEEPER_YES },
    { "one's own, in other letters", 0,            200, GOOD,  "ALICE", "mail", KEEPER_YES },
};
// clang-format on

static void ask_each(void *arg)
{
    const struct answer_case *a = arg;
    struct conf c = conf_of_test();

    c.oauth_scope = a->scope;
    begin(&c, a->says);
    endpoint.status = a->status;
    endpoint.error = a->error;
    for (unsigned i = 1; i <= 2; i++) {
        enum keeper_verdict v = check(&c, "t", a->login);
        if (v != a->verdict)
            fail_msg("%s: %d", a->name, v);
        if (endpoint.asked != (strstr(a->says, "alice") != NULL && v <= KEEPER_NO && a->scope[0] != 's' && strstr(a->says, "exp") == NULL ? 1 : i))
            fail_msg("%s: asked %u times", a->name, endpoint.asked);     /* only good answers are remembered */
    }
    end();
}

/* -- what is remembered ------------------------------------------------------------------------------------------------------------- */

static unsigned asked_after(const struct conf *c, int64_t ns, const char *token)
{
    assert_int_equal(task_sleep(ns), 0);
    assert_int_equal(check(c, token, ""), KEEPER_YES);
    return endpoint.asked;
}

static void remembers(void *arg)
{
    struct conf c = conf_of_test(), other = conf_of_test();
    char says[128];

    (void)arg;
    begin(&c, GOOD);
    assert_int_equal(asked_after(&c, 0, "t"), 1);
    assert_int_equal(asked_after(&c, 299 * NS_PER_S, "t"), 1);
    assert_int_equal(asked_after(&c, 2 * NS_PER_S, "t"), 2);             /* five minutes */
    assert_int_equal(asked_after(&c, 0, "t2"), 3);
    assert_int_equal(asked_after(&c, 0, "t"), 3);
    other.oauth_scope = "mail";
    assert_int_equal(asked_after(&other, 0, "t"), 4);                    /* found by another rule */
    other.oauth_cache_time_ns = 0;
    other.oauth_audience = "x";
    assert_int_equal(check(&other, "t", ""), KEEPER_NO);
    snprintf(says, sizeof says, "{\"active\":true,\"username\":\"alice\",\"exp\":%lld}", (long long)(clock_wall_ns() / NS_PER_S + 10));
    endpoint.says = says;
    assert_int_equal(asked_after(&c, 0, "short"), 6);
    assert_int_equal(asked_after(&c, 8 * NS_PER_S, "short"), 6);
    assert_int_equal(task_sleep(3 * NS_PER_S), 0);
    assert_int_equal(check(&c, "short", ""), KEEPER_NO);                 /* not beyond its own end */
    endpoint.error = -ECONNREFUSED;
    assert_int_equal(check(&c, "t", ""), KEEPER_YES);                    /* known, whoever is down */
    assert_int_equal(check(&c, "new", ""), KEEPER_TROUBLE);
    end();
}

/* -- how we ask ------------------------------------------------------------------------------------------------------------------------ */

static void put_file(const char *name, const char *text)
{
    CLEANUP_FILE int root = file_open_dir("/");
    CLEANUP_FILE int file = file_open_at(root, name, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE);

    assert_int_equal(file_write_at(file, text, strlen(text), 0), 0);
}

static void asks_as_it_should(void *arg)
{
    struct conf c = conf_of_test();

    (void)arg;
    begin(&c, GOOD);
    assert_int_equal(check(&c, "a/b+c=", ""), KEEPER_YES);
    assert_string_equal(endpoint.form, "token=a%2Fb%2Bc%3D&token_type_hint=access_token");
    assert_string_equal(endpoint.user, "(none)");
    c.oauth_client_id = "me:too";
    c.oauth_client_secret_file = "/secret";
    assert_int_equal(check(&c, "t", ""), KEEPER_TROUBLE);                /* no file: nobody is asked without the secret */
    assert_int_equal(endpoint.asked, 1);
    put_file("secret", "s%3\n");
    assert_int_equal(check(&c, "t", ""), KEEPER_YES);
    assert_string_equal(endpoint.user, "me%3Atoo");
    assert_string_equal(endpoint.password, "s%253");
    end();
    assert_int_equal(check(&c, "t", ""), KEEPER_TROUBLE);                /* not started */
}

static void finds_it_by_dns(void *arg)
{
    struct conf c = conf_of_test();

    (void)arg;
    c.oauth_introspection_url = "https://idp.example/x";
    begin(&c, GOOD);
    assert_int_equal(sim_dns_zone("idp.example. 60 IN A 192.0.2.7\n"), 0);
    assert_int_equal(check(&c, "t", ""), KEEPER_YES);
    sim_dns_fail("idp.example", DNS_SERVFAIL);
    assert_int_equal(check(&c, "u", ""), KEEPER_TROUBLE);
    sim_dns_fail("idp.example", DNS_NO_NAME);
    assert_int_equal(check(&c, "u", ""), KEEPER_TROUBLE);
    assert_int_equal(endpoint.asked, 1);
    end();
}

struct asker {
    const struct conf  *conf;
    char                token[8];
    enum keeper_verdict verdict;
    struct task        *waiter;
    unsigned           *left;
};

static void ask_alone(void *arg)
{
    struct asker *a = arg;

    a->verdict = check(a->conf, a->token, "");
    --*a->left;
    task_wake(a->waiter);
}

/* One is asked, one waits, and the third comes another time. */
static void is_bounded(void *arg)
{
    struct conf c = conf_of_test();
    struct asker askers[4];
    unsigned left = 4, busy = 0, yes = 0;

    (void)arg;
    begin(&c, GOOD);
    endpoint.takes_ns = NS_PER_S;
    for (unsigned i = 0; i < 4; i++) {
        askers[i] = (struct asker){ .conf = &c, .waiter = task_self(), .left = &left };
        snprintf(askers[i].token, sizeof askers[i].token, "t%u", i);
        assert_int_equal(task_start("asker", ask_alone, &askers[i]), 0);
    }
    while (left > 0)
        assert_int_equal(task_park(TASK_FOREVER), 0);
    for (unsigned i = 0; i < 4; i++) {
        busy += askers[i].verdict == KEEPER_BUSY;
        yes += askers[i].verdict == KEEPER_YES;
    }
    assert_true(busy >= 2 && yes >= 1 && busy + yes == 4);
    end();
}

static void simulate(task_fn *fn, void *arg)
{
    sim_begin(&(struct sim_options){ .seed = 1 });
    assert_int_equal(sim_run(fn, arg), 0);
    sim_end();
}

static void test_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        simulate(ask_each, (void *)(uintptr_t)&answers[i]);
}

static void test_remembers(void **state)
{
    (void)state;
    simulate(remembers, NULL);
}

static void test_asks(void **state)
{
    (void)state;
    simulate(asks_as_it_should, NULL);
}

static void test_dns(void **state)
{
    (void)state;
    simulate(finds_it_by_dns, NULL);
}

static void test_bounded(void **state)
{
    (void)state;
    simulate(is_bounded, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_answers), cmocka_unit_test(test_remembers), cmocka_unit_test(test_asks),
                                        cmocka_unit_test(test_dns), cmocka_unit_test(test_bounded) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
