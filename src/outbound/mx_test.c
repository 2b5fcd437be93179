/*
 * outbound/mx: which servers, in which order, and what is said when there are none. In the simulated world.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "outbound/mx.h"
#include "run/sim.h"
#include <stdio.h>
#include <string.h>

static const char zone[] = "plain.example. 300 IN MX 20 b.mx.example.\n"
                           "plain.example. 300 IN MX 10 a.mx.example.\n"
                           "equal.example. 300 IN MX 10 a.mx.example.\n"
                           "equal.example. 300 IN MX 10 b.mx.example.\n"
                           "both.example. 300 IN MX 10 both.mx.example.\n"
                           "null.example. 300 IN MX 0 .\n"
                           "nulls.example. 300 IN MX 0 .\n"
                           "nulls.example. 300 IN MX 10 .\n"
                           "implicit.example. 300 IN A 192.0.2.9\n"
                           "nothing.example. 300 IN TXT \"no mail here\"\n"
                           "lost.example. 300 IN MX 10 gone.mx.example.\n"
                           "dead.example. 300 IN MX 10 unsure.mx.example.\n"
                           "half.example. 300 IN MX 10 unsure.mx.example.\n"
                           "half.example. 300 IN MX 20 b.mx.example.\n"
                           "backup.example. 300 IN MX 10 a.mx.example.\n"
                           "backup.example. 300 IN MX 20 us.example.\n"
                           "backup.example. 300 IN MX 30 b.mx.example.\n"
                           "ours.example. 300 IN MX 10 us.example.\n"
                           "ours.example. 300 IN MX 10 a.mx.example.\n"
                           "us.example. 300 IN A 192.0.2.100\n"
                           "a.mx.example. 300 IN A 192.0.2.1\n"
                           "b.mx.example. 300 IN A 192.0.2.2\n"
                           "both.mx.example. 300 IN A 192.0.2.3\n"
                           "both.mx.example. 300 IN AAAA 2001:db8::3\n";

static const struct {
    const char *domain;
    const char *addresses;               /* in order; NULL: it fails */
    const char *status;                  /* of the failure */
    bool        for_good;
} cases[] = {
    { "plain.example",         "192.0.2.1 192.0.2.2",      NULL,     false },
    { "both.example",          "2001:db8::3 192.0.2.3",    NULL,     false },
    { "implicit.example",      "192.0.2.9",                NULL,     false },
    { "half.example",          "192.0.2.2",                NULL,     false },   /* one host unsure: the other will do */
    { "backup.example",        "192.0.2.1",                NULL,     false },   /* never to ourselves or behind us */
    { "[192.0.2.77]",          "192.0.2.77",               NULL,     false },
    { "[IPv6:2001:db8::77]",   "2001:db8::77",             NULL,     false },
    { "ours.example",          NULL,                       "5.4.6",  true  },
    { "us.example",            NULL,                       "5.4.6",  true  },
    { "null.example",          NULL,                       "5.1.10", true  },
    { "nulls.example",         NULL,                       "5.1.10", true  },
    { "nothing.example",       NULL,                       "5.4.4",  true  },
    { "lost.example",          NULL,                       "5.4.4",  true  },
    { "absent.example",        NULL,                       "5.1.2",  true  },
    { "dead.example",          NULL,                       "4.4.3",  false },
    { "servfail.example",      NULL,                       "4.4.3",  false },
    { "bogus.example",         NULL,                       "4.7.0",  false },
};

static const struct conf conf = { .hostname = "us.example", .smtp_port = 25 };

static void put_list(char *out, size_t size, const struct mx_list *list)
{
    char text[NET_ADDR_TEXT_MAX];
    struct buf b;
    buf_init_fixed(&b, out, size - 1);
    for (size_t i = 0; i < list->count; i++)
        buf_printf(&b, "%s%s", i > 0 ? " " : "", net_addr_format_ip(&list->items[i].addr, text));
    out[b.n] = '\0';
}

static void look_up_all(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct arena a;
        struct route route = { .kind = ROUTE_MX, .domain = str_of(cases[i].domain) };
        struct mx_list list = { 0 };
        struct outcome failure = { 0 };
        char text[512] = "";
        arena_init(&a, 1 << 20);
        enum mx_status status = mx_lookup(&a, &conf, &route, &list, &failure);
        if (status == MX_FOUND)
            put_list(text, sizeof(text), &list);
        bool right = cases[i].addresses != NULL
                         ? status == MX_FOUND && strcmp(text, cases[i].addresses) == 0
                         : status == MX_FAILED && str_eq(failure.status, str_of(cases[i].status)) &&
                               (failure.state == RCPT_BOUNCED) == cases[i].for_good && failure.text.n > 0;
        if (!right)
            print_error("%s: status %d, addresses '%s', failure %.*s %.*s\n", cases[i].domain, status, text, STR_ARG(failure.status),
                        STR_ARG(failure.text));
        assert_true(right);
        arena_reset(&a);
    }
}

static void equals_are_shuffled(void *arg)
{
    bool *seen = arg;
    for (int i = 0; i < 64; i++) {
        struct arena a;
        struct route route = { .kind = ROUTE_MX, .domain = STR("equal.example") };
        struct mx_list list;
        struct outcome failure;
        arena_init(&a, 1 << 20);
        assert_int_equal(mx_lookup(&a, &conf, &route, &list, &failure), MX_FOUND);
        assert_int_equal(list.count, 2);
        seen[str_eq(list.items[0].host, STR("a.mx.example"))] = true;
        arena_reset(&a);
    }
}

static void a_relay_host_never_bounces_for_want_of_an_address(void *arg)
{
    (void)arg;
    struct arena a;
    struct route route = { .kind = ROUTE_HOST, .host = STR("gone.mx.example"), .port = 25 };
    struct mx_list list;
    struct outcome failure;
    arena_init(&a, 1 << 20);
    assert_int_equal(mx_lookup(&a, &conf, &route, &list, &failure), MX_FAILED);
    assert_int_equal(failure.state, RCPT_PENDING);
    arena_reset(&a);
}

/* However many hosts, and however slow their name servers: what was found in a minute will do. */
static void there_is_an_end_of_asking(void *arg)
{
    (void)arg;
    struct arena a;
    struct route route = { .kind = ROUTE_MX, .domain = STR("many.example") };
    struct mx_list list;
    struct outcome failure;
    char text[4096] = "";
    struct buf records;
    buf_init(&records, sizeof text);
    for (int i = 0; i < 20; i++)
        buf_printf(&records, "many.example. 300 IN MX %d h%d.example.\nh%d.example. 300 IN A 192.0.2.%d\n", i, i, i, i);
    buf_put_char(&records, '\0');
    assert_int_equal(sim_dns_zone(records.p), 0);
    sim_dns_latency(20 * NS_PER_S, 20 * NS_PER_S);
    arena_init(&a, 1 << 20);
    int64_t began = clock_mono_ns();
    assert_int_equal(mx_lookup(&a, &conf, &route, &list, &failure), MX_FOUND);
    put_list(text, sizeof text, &list);
    assert_string_equal(text, "192.0.2.0");
    assert_true(clock_mono_ns() - began <= 60 * NS_PER_S);

    sim_dns_latency(70 * NS_PER_S, 70 * NS_PER_S);
    assert_int_equal(mx_lookup(&a, &conf, &route, &list, &failure), MX_FAILED);
    assert_int_equal(failure.state, RCPT_PENDING);
    arena_reset(&a);
    buf_free(&records);
}

static int in_world(task_fn *fn, void *arg)
{
    sim_begin(&(struct sim_options){ .seed = 3 });
    assert_int_equal(sim_dns_zone(zone), 0);
    sim_dns_fail("servfail.example", DNS_SERVFAIL);
    sim_dns_fail("unsure.mx.example", DNS_SERVFAIL);
    sim_dns_fail("bogus.example", DNS_BOGUS);
    int r = sim_run(fn, arg);
    sim_end();
    return r;
}

static void the_table(void **state)
{
    (void)state;
    assert_int_equal(in_world(look_up_all, NULL), 0);
}

static void shuffle(void **state)
{
    (void)state;
    bool seen[2] = { false, false };
    assert_int_equal(in_world(equals_are_shuffled, seen), 0);
    assert_true(seen[0] && seen[1]);
}

static void relay_host(void **state)
{
    (void)state;
    assert_int_equal(in_world(a_relay_host_never_bounces_for_want_of_an_address, NULL), 0);
}

static void slow_name_servers(void **state)
{
    (void)state;
    assert_int_equal(in_world(there_is_an_end_of_asking, NULL), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table),
        cmocka_unit_test(shuffle),
        cmocka_unit_test(relay_host),
        cmocka_unit_test(slow_name_servers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
