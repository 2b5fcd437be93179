/*
 * outbound/site: what is known of destinations goes when nobody needs it any more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "outbound/site.h"
#include "outbound/test_scene.h"

/* Bounces to invented domains come every day: each leaves a site that is down, and is not asked for again. */
static void find_dead(struct sites *sites, const struct conf *conf, unsigned count)
{
    struct outcome why = outcome_of_ours(RCPT_PENDING, "4.4.1", "cannot connect");
    char name[64];
    for (unsigned i = 0; i < count; i++) {
        struct site *site;
        struct client *client;
        snprintf(name, sizeof name, "d%u.example", i);
        assert_int_equal(site_enter(sites, str_of(name), conf, &site, &client), 0);
        assert_null(client);
        site_keep_words(site, &why, 60 * NS_PER_S);
        site_leave(site, NULL);
    }
}

static void dead_sites_are_forgotten(void *arg)
{
    (void)arg;
    struct conf *conf = scene_conf("us.example", "us");
    struct sites *sites = sites_new();
    find_dead(sites, conf, 100);
    assert_int_equal(sites_count(sites), 100);
    (void)task_sleep(30 * NS_PER_S);
    assert_int_equal(sites_count(sites), 100);
    (void)task_sleep(60 * NS_PER_S);
    assert_int_equal(sites_count(sites), 0);
    sites_free(sites);
    conf_unref(conf);
}

/* Where no name can be resolved, a queue of a million domains must not become a million dead sites. */
static void dead_sites_have_a_limit(void *arg)
{
    (void)arg;
    struct conf *conf = scene_conf("us.example", "us");
    struct sites *sites = sites_new();
    find_dead(sites, conf, 2 * SITES_WORDS_MAX);
    assert_int_equal(sites_count(sites), SITES_WORDS_MAX);
    (void)task_sleep(90 * NS_PER_S);
    assert_int_equal(sites_count(sites), 0);
    sites_free(sites);
    conf_unref(conf);
}

static void test_dead_sites_have_a_limit(void **state)
{
    (void)state;
    sim_begin(&(struct sim_options){ .seed = 4 });
    assert_int_equal(sim_run(dead_sites_have_a_limit, NULL), 0);
    sim_end();
}

static void test_dead_sites_are_forgotten(void **state)
{
    (void)state;
    sim_begin(&(struct sim_options){ .seed = 3 });
    assert_int_equal(sim_run(dead_sites_are_forgotten, NULL), 0);
    sim_end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dead_sites_are_forgotten),
        cmocka_unit_test(test_dead_sites_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
