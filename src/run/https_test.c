/*
 * run/https: where an endpoint is, as DNS says it, and what is not asked at all. Endpoints that answer, rightly and wrongly, are in
 * tests/peers/oauth_test.py.
 */
#include "run/https.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "run/sim.h"
#include "run/task.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define ZONE \
    "both.example. 60 IN A 192.0.2.1\nboth.example. 60 IN AAAA 2001:db8::1\n" \
    "six.example. 60 IN AAAA 2001:db8::1\ntext.example. 60 IN TXT \"no address\"\n" \
    "many.example. 60 IN A 192.0.2.1\nmany.example. 60 IN A 192.0.2.2\nmany.example. 60 IN A 192.0.2.3\nmany.example. 60 IN A 192.0.2.4\n" \
    "many.example. 60 IN A 192.0.2.5\nmany.example. 60 IN A 192.0.2.6\nmany.example. 60 IN A 192.0.2.7\nmany.example. 60 IN A 192.0.2.8\n" \
    "many.example. 60 IN A 192.0.2.9\n"

// clang-format off
static const struct { const char *url; int result; const char *line, *error; } places[] = {
    { "https://both.example/x",      0,             "both.example:443:192.0.2.1,[2001:db8::1]", NULL },
    { "https://six.example:8443/x",  0,             "six.example:8443:[2001:db8::1]", NULL },
    { "https://192.0.2.9/x",         0,             "", NULL },
    { "https://[2001:db8::9]/x",     0,             "", NULL },
    { "http://localhost:81/x",       0,             "localhost:81:127.0.0.1,[::1]", NULL },
    { "https://nobody.example/",     -EHOSTUNREACH, NULL, "has no address" },
    { "https://text.example/",       -EHOSTUNREACH, NULL, "has no address" },
    { "https://broken.example/",     -EHOSTUNREACH, NULL, "cannot be looked up now" },
    { "https://forged.example/",     -EHOSTUNREACH, NULL, "cannot be looked up now" },
    { "https://a@b.example/",        -EHOSTUNREACH, NULL, "not a URL" },
};
// clang-format on

/* In whatever order they come. */
static void find_many(void)
{
    struct https_place place;
    char error[HTTPS_ERROR_MAX];
    size_t commas = 0;

    assert_int_equal(https_find("https://many.example/", task_deadline_in(NS_PER_S), &place, error), 0);
    for (const char *p = place.line; *p != '\0'; p++)
        commas += *p == ',';
    assert_int_equal(commas, 7);         /* of nine eight */
}

static void find_each(void *arg)
{
    (void)arg;
    assert_int_equal(sim_dns_zone(ZONE), 0);
    sim_dns_fail("broken.example", DNS_SERVFAIL);
    sim_dns_fail("forged.example", DNS_BOGUS);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct https_place place = { .line = "untouched" };
        char error[HTTPS_ERROR_MAX] = "";
        int r = https_find(places[i].url, task_deadline_in(NS_PER_S), &place, error);
        if (r != places[i].result || strcmp(place.line, r == 0 ? places[i].line : "untouched") != 0 || (r < 0 && strstr(error, places[i].error) == NULL))
            fail_msg("%s: %d %s %s", places[i].url, r, place.line, error);
    }
    find_many();
}

static void finds(void **state)
{
    (void)state;
    sim_begin(&(struct sim_options){ .seed = 1 });
    assert_int_equal(sim_run(find_each, NULL), 0);
    sim_end();
}

// clang-format off
static const struct { const char *url, *place; int64_t left_ns; int result; const char *error; } posts[] = {
    { "https://a.example/",          "", NS_PER_S,  -EINVAL,       "not a URL" },         /* libcurl would look for it itself */
    { "http://192.0.2.1/",           "", NS_PER_S,  -EINVAL,       "not a URL" },         /* in the clear, to elsewhere */
    { "http://a.example/",           "a.example:80:127.0.0.1", NS_PER_S, -EINVAL, "not a URL" },
    { "file:///etc/passwd",          "", NS_PER_S,  -EINVAL,       "not a URL" },
    { "https://127.0.0.1:1/",        "", -1,        -ETIMEDOUT,    "no time left" },
    { "https://127.0.0.1:1/",        "", NS_PER_S,  -ECONNREFUSED, "connect" },
    { "http://localhost:1/",         "localhost:1:127.0.0.1", NS_PER_S, -ECONNREFUSED, "connect" },
    { "https://name.example:1/",     "name.example:1:127.0.0.1", NS_PER_S, -ECONNREFUSED, "connect" },
};
// clang-format on

static void is_not_asked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof posts / sizeof *posts; i++) {
        struct https_request request = { .url = posts[i].url, .form = STR("a=b"), .deadline_ns = clock_mono_ns() + posts[i].left_ns };
        struct https_place place = { .line = "" };
        char error[HTTPS_ERROR_MAX] = "";
        unsigned status = 7;
        CLEANUP_BUF struct buf body;

        buf_init(&body, HTTPS_BODY_MAX);
        strcpy(place.line, posts[i].place);
        int r = https_post(&request, &place, &status, &body, error);
        if (r != posts[i].result || strstr(error, posts[i].error) == NULL)
            fail_msg("%s: %d %s", posts[i].url, r, error);
        assert_true(status == 7 && body.n == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(finds), cmocka_unit_test(is_not_asked) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
