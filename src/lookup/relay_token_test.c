/*
 * lookup/relay_token in the simulated world, with a token endpoint that says what a test wants: one refresh for many, endpoints that fail,
 * and refresh tokens that change.
 */
#include "lookup/relay_token.h"
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

static struct endpoint {
    int         error;
    unsigned    status;
    const char *says;                    /* %u: how often it was asked */
    int64_t     takes_ns;
    unsigned    asked;
    char        form[512], user[128];
} endpoint;

#define SAYS(more) "{\"access_token\":\"at-%u\",\"token_type\":\"Bearer\"" more "}"

static int post(void *self, const struct https_request *r, unsigned *out_status, struct buf *out_body, char error[HTTPS_ERROR_MAX])
{
    struct endpoint *e = self;

    e->asked++;
    snprintf(e->form, sizeof e->form, "%.*s", (int)r->form.n, r->form.p);
    snprintf(e->user, sizeof e->user, "%s:%s", r->user == NULL ? "(none)" : r->user, r->user == NULL ? "" : r->password);
    if (e->takes_ns > 0)
        sim_spend(e->takes_ns);
    snprintf(error, HTTPS_ERROR_MAX, "planted");
    if (e->error < 0)
        return e->error;
    *out_status = e->status;
    for (const char *p = e->says; *p != '\0'; p++) {
        if (p[0] == '%' && p[1] == 'u')
            buf_printf(out_body, "%u", e->asked), p++;
        else
            buf_put_char(out_body, *p);
    }
    return 0;
}

static void put_file(const char *name, const char *text)
{
    CLEANUP_FILE int root = file_open_dir("/");
    CLEANUP_FILE int file = file_open_at(root, name, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE);

    assert_int_equal(file_write_at(file, text, strlen(text), 0), 0);
    assert_int_equal(file_sync(file), 0);
    assert_int_equal(file_sync(root), 0);
}

static void file_is(const char *wanted)
{
    CLEANUP_BUF struct buf text;

    buf_init(&text, 4096);
    assert_int_equal(file_read_whole("/refresh", 4000, &text), 0);
    if (!str_eq(buf_str(&text), str_of(wanted)))
        fail_msg("the file has %.*s", (int)text.n, text.p);
}

static struct conf begin(const char *says)
{
    struct conf c = { .relay_host_oauth_token_url = "https://192.0.2.1/token", .relay_host_oauth_client_id = "us", .relay_host_oauth_scope = "",
                      .relay_host_oauth_refresh_token_file = "/refresh", .relay_host_oauth_ca_file = "", .relay_host_user = "me",
                      .relay_host_oauth_timeout_ns = 10 * NS_PER_S };

    endpoint = (struct endpoint){ .status = 200, .says = says };
    https_replace(post, &endpoint);
    put_file("refresh", "r1\n");
    assert_int_equal(lookup_relay_token_start(&c), 0);
    return c;
}

static void end(void)
{
    lookup_relay_token_stop();
    https_replace(NULL, NULL);
}

/* The token, or the error in parentheses. */
static const char *ask(const struct conf *c, const char *refused)
{
    static char said[300];
    char error[256] = "";
    CLEANUP_BUF struct buf out;

    buf_init(&out, OAUTH_TOKEN_MAX);
    int r = lookup_relay_token(c, str_of(refused), &out, error);
    if (r == 0)
        snprintf(said, sizeof said, "%.*s", (int)out.n, out.p);
    else
        snprintf(said, sizeof said, "(%s)", error);
    assert_true(r == 0 || (r == -EACCES && out.n == 0));
    return said;
}

static void sleep_s(int64_t s) { assert_int_equal(task_sleep(s * NS_PER_S), 0); }

static void keeps_until_shortly_before_its_end(void *arg)
{
    struct conf c = begin(SAYS(",\"expires_in\":3600"));

    (void)arg;
    assert_string_equal(ask(&c, ""), "at-1");
    assert_string_equal(endpoint.form, "grant_type=refresh_token&refresh_token=r1&client_id=us");
    assert_string_equal(endpoint.user, "(none):");
    sleep_s(3539);
    assert_string_equal(ask(&c, ""), "at-1");
    sleep_s(2);
    assert_string_equal(ask(&c, ""), "at-2");
    c.relay_host_oauth_scope = "mail.send x";
    c.relay_host_oauth_client_secret_file = "/secret";
    assert_string_equal(ask(&c, ""), "(relay_host_oauth_client_secret: No such file or directory)");
    assert_int_equal(endpoint.asked, 2);
    put_file("secret", "p:w\n");
    sleep_s(2);
    assert_string_equal(ask(&c, ""), "at-3");
    assert_string_equal(endpoint.form, "grant_type=refresh_token&refresh_token=r1&scope=mail.send%20x");
    assert_string_equal(endpoint.user, "us:p%3Aw");
    endpoint.says = SAYS(",\"expires_in\":10");                         /* short ones for half their time */
    assert_string_equal(ask(&c, "at-3"), "at-4");
    sleep_s(4);
    assert_string_equal(ask(&c, ""), "at-4");
    sleep_s(2);
    assert_string_equal(ask(&c, ""), "at-5");
    end();
}

static void a_refused_one_is_renewed(void *arg)
{
    struct conf c = begin(SAYS(""));

    (void)arg;
    assert_string_equal(ask(&c, ""), "at-1");
    assert_string_equal(ask(&c, "at-1"), "at-2");
    assert_string_equal(ask(&c, "at-1"), "at-2");                       /* somebody else was as late */
    assert_string_equal(ask(&c, "at-2"), "(the relay host refuses the token that the token endpoint has just given)");
    sleep_s(6);
    assert_string_equal(ask(&c, "at-2"), "at-3");
    end();
}

static void failures_are_not_a_flood(void *arg)
{
    struct conf c = begin(SAYS(""));

    (void)arg;
    endpoint.error = -ECONNREFUSED;
    assert_string_equal(ask(&c, ""), "(token endpoint: planted)");
    assert_string_equal(ask(&c, ""), "(token endpoint: planted)");
    assert_int_equal(endpoint.asked, 1);
    sleep_s(2);
    assert_string_equal(ask(&c, ""), "(token endpoint: planted)");
    assert_int_equal(endpoint.asked, 2);
    sleep_s(1);
    assert_string_equal(ask(&c, ""), "(token endpoint: planted)");      /* at growing intervals */
    assert_int_equal(endpoint.asked, 2);
    sleep_s(3);
    endpoint.error = 0;
    endpoint.status = 400;
    endpoint.says = "{\"error\":\"invalid_grant\"}";
    assert_string_equal(ask(&c, ""), "(token endpoint: 400 invalid_grant)");
    sleep_s(50);
    assert_string_equal(ask(&c, ""), "(token endpoint: 400 invalid_grant)");
    assert_int_equal(endpoint.asked, 3);
    put_file("refresh", "r9\n");                                          /* the operator has put another one there */
    endpoint.status = 200;
    endpoint.says = SAYS("");
    assert_string_equal(ask(&c, ""), "at-4");
    put_file("refresh", "r 9\n");
    assert_string_equal(ask(&c, "at-4"), "(relay_host_oauth_refresh_token: the file holds no token)");
    end();
}

static void a_new_refresh_token_is_written(void *arg)
{
    struct conf c = begin(SAYS(",\"expires_in\":100,\"refresh_token\":\"next-%u\""));

    (void)arg;
    assert_string_equal(ask(&c, ""), "at-1");
    file_is("next-1\n");
    sleep_s(100);
    assert_string_equal(ask(&c, ""), "at-2");
    assert_non_null(strstr(endpoint.form, "refresh_token=next-1&"));
    file_is("next-2\n");
    sleep_s(100);
    sim_disk_fail_kind(SIM_OP_CREATE, EROFS);
    assert_string_equal(ask(&c, ""), "at-3");                             /* it works on, from memory */
    file_is("next-2\n");
    sleep_s(100);
    assert_string_equal(ask(&c, ""), "at-4");
    assert_non_null(strstr(endpoint.form, "refresh_token=next-3&"));
    sim_disk_heal();
    sleep_s(100);
    assert_string_equal(ask(&c, ""), "at-5");
    assert_non_null(strstr(endpoint.form, "refresh_token=next-4&"));
    file_is("next-5\n");
    sim_disk_fail_kind(SIM_OP_RENAME, EIO);
    sleep_s(100);
    assert_string_equal(ask(&c, ""), "at-6");
    file_is("next-5\n");
    sim_disk_heal();
    put_file("refresh", "mine\n");                                        /* an operator knows better than our memory */
    sleep_s(100);
    assert_string_equal(ask(&c, ""), "at-7");
    assert_non_null(strstr(endpoint.form, "refresh_token=mine&"));
    end();
}

/* -- many at once ------------------------------------------------------------------------------------------------------------------- */

struct asker {
    const struct conf *conf;
    struct task       *waiter;
    unsigned          *left;
    const char        *wanted;
};

static void ask_alone(void *arg)
{
    struct asker *a = arg;

    assert_string_equal(ask(a->conf, ""), a->wanted);
    --*a->left;
    task_wake(a->waiter);
}

static void ask_many(const struct conf *c, const char *wanted)
{
    unsigned left = 50;
    struct asker asker = { .conf = c, .waiter = task_self(), .left = &left, .wanted = wanted };

    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(task_start("asker", ask_alone, &asker), 0);
    while (left > 0)
        assert_int_equal(task_park(TASK_FOREVER), 0);
}

static void one_refresh_for_many(void *arg)
{
    struct conf c = begin(SAYS(""));

    (void)arg;
    endpoint.takes_ns = NS_PER_S / 2;
    ask_many(&c, "at-1");
    assert_int_equal(endpoint.asked, 1);
    sleep_s(400);
    endpoint.error = -ETIMEDOUT;
    ask_many(&c, "(token endpoint: planted)");
    assert_int_equal(endpoint.asked, 2);
    end();
}

static void simulate(task_fn *fn)
{
    sim_begin(&(struct sim_options){ .seed = 1 });
    assert_int_equal(sim_run(fn, NULL), 0);
    sim_end();
}

static void test_keeps(void **state)
{
    (void)state;
    simulate(keeps_until_shortly_before_its_end);
}

static void test_refused(void **state)
{
    (void)state;
    simulate(a_refused_one_is_renewed);
}

static void test_failures(void **state)
{
    (void)state;
    simulate(failures_are_not_a_flood);
}

static void test_written(void **state)
{
    (void)state;
    simulate(a_new_refresh_token_is_written);
}

static void test_many(void **state)
{
    (void)state;
    simulate(one_refresh_for_many);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_keeps), cmocka_unit_test(test_refused), cmocka_unit_test(test_failures),
                                        cmocka_unit_test(test_written), cmocka_unit_test(test_many) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
