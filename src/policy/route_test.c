/*
 * Routes, and Maildir paths that no address can climb out of.
 */
#include "policy/route.h"
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

static struct arena arena;
static struct conf  conf = { .hostname = "mx.here.example", .mailbox = "/m/{domain}/{user}", .relay_host = "", .smtp_port = 25 };

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 20);
    map_str_init(&conf.local_domains);
    return map_str_put(&conf.local_domains, STR("here.example"), &conf);
}

static int tear_down(void **state)
{
    (void)state;
    map_str_free(&conf.local_domains);
    arena_reset(&arena);
    return 0;
}

static const struct { const char *local, *domain, *path; } mailboxes[] = {
    { "..",            "here.example", "/m/here.example/%2E%2E"     },
    { ".",             "here.example", "/m/here.example/%2E"        },
    { "../../etc/x",   "here.example", "/m/here.example/%2E.%2F..%2Fetc%2Fx" },
    { "a/b",           "here.example", "/m/here.example/a%2Fb"      },
    { "a\\b",          "here.example", "/m/here.example/a%5Cb"      },
    { "a%2Fb",         "here.example", "/m/here.example/a%252fb"    },   /* nothing decodes twice into a slash */
    { "{user}",        "here.example", "/m/here.example/%7Buser%7D" },
    { "J. Doe",        "here.example", "/m/here.example/j.%20doe"   },
    { "b\xc3\xb6" "b", "here.example", "/m/here.example/b%C3%B6b"   },
    { "bob+tag",       "here.example", "/m/here.example/bob+tag"    },
    { "Bob.B",         "here.example", "/m/here.example/bob.b"      },
    { "postmaster",    "",             "/m/here.example/postmaster" },
    { "x",             "[192.0.2.1]",  "/m/%5B192.0.2.1%5D/x"       },
};

static const struct { const char *local, *path; } details[] = {
    { "..+x",      "/m/here.example/%2E%2E" },
    { ".+/../x",   "/m/here.example/%2E"    },
    { "+x",        "/m/here.example/+x"     },
    { "Bob+A+b",   "/m/here.example/bob"    },
    { "dave+x",    "/m/here.example/dave+x" },   /* listed so */
    { "postmaster+x", "/m/here.example/postmaster" },
};

static void details_are_left_out(void **state)
{
    (void)state;
    conf.recipient_delimiter = "+";
    conf.have_users_file = true;
    map_str_init(&conf.users);
    assert_int_equal(map_str_put(&conf.users, STR("dave+x"), &conf), 0);
    for (size_t i = 0; i < sizeof details / sizeof details[0]; i++) {
        struct address a = { .local = str_of(details[i].local), .domain = STR("here.example") };
        const char *path = NULL;
        assert_int_equal(route_mailbox(&arena, &conf, &a, &path), 0);
        assert_string_equal(path, details[i].path);
    }
    map_str_free(&conf.users);
    conf.have_users_file = false;
    conf.recipient_delimiter = NULL;
}

static void mailboxes_stay_inside(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mailboxes / sizeof mailboxes[0]; i++) {
        struct address a = { .local = str_of(mailboxes[i].local), .domain = str_of(mailboxes[i].domain) };
        const char *path = NULL;
        assert_int_equal(route_mailbox(&arena, &conf, &a, &path), 0);
        assert_string_equal(path, mailboxes[i].path);
    }
    struct address nobody = { .local = STR(""), .domain = STR("here.example") };
    const char *path = NULL;
    assert_int_equal(route_mailbox(&arena, &conf, &nobody, &path), -EINVAL);
    assert_null(path);
}

static const struct { const char *relay, *domain; enum route_kind kind; const char *host; uint16_t port; } routes[] = {
    { "",                     "here.example", ROUTE_LOCAL, "",                   25  },
    { "smart.example",        "here.example", ROUTE_LOCAL, "",                   25  },
    { "smart.example",        "",             ROUTE_LOCAL, "",                   25  },
    { "",                     "b.example",    ROUTE_MX,    "",                   25  },
    { "",                     "[192.0.2.1]",  ROUTE_MX,    "",                   25  },
    { "smart.example",        "b.example",    ROUTE_HOST,  "smart.example",      25  },
    { "smart.example:587",    "b.example",    ROUTE_HOST,  "smart.example",      587 },
    { "[192.0.2.1]",          "b.example",    ROUTE_HOST,  "[192.0.2.1]",        25  },
    { "[IPv6:2001:db8::1]:9", "b.example",    ROUTE_HOST,  "[IPv6:2001:db8::1]", 9   },
};

static void routes_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        struct address a = { .local = STR("x"), .domain = str_of(routes[i].domain) };
        struct route r;
        conf.relay_host = routes[i].relay;
        assert_int_equal(route_for(&arena, &conf, &a, &r), 0);
        if (r.kind != routes[i].kind || !str_eq(r.host, str_of(routes[i].host)) || r.port != routes[i].port)
            fail_msg("%s by \"%s\": %d %.*s %u", routes[i].domain, routes[i].relay, r.kind, (int)r.host.n, r.host.p, r.port);
        assert_int_equal(route_cmp(&r, &r), 0);
    }
}

static void one_relay_host_is_one_route(void **state)
{
    struct address a = { .local = STR("x"), .domain = STR("a.example") }, b = { .local = STR("y"), .domain = STR("b.example") };
    struct route ra, rb;

    (void)state;
    conf.relay_host = "smart.example";
    assert_int_equal(route_for(&arena, &conf, &a, &ra), 0);
    assert_int_equal(route_for(&arena, &conf, &b, &rb), 0);
    assert_int_equal(route_cmp(&ra, &rb), 0);
    conf.relay_host = "";
    assert_int_equal(route_for(&arena, &conf, &a, &ra), 0);
    assert_int_equal(route_for(&arena, &conf, &b, &rb), 0);
    assert_true(route_cmp(&ra, &rb) < 0 && route_cmp(&rb, &ra) > 0);
}

/* An operator's word goes before all others, and the relay host's login is not for him whom it names. */
static void a_recipient_may_go_another_way(void **state)
{
    static const struct { const char *hop, *host; uint16_t port; } hops[] = {
        { "[192.0.2.1]", "[192.0.2.1]", 25 }, { "[IPv6:2001:db8::1]:26", "[IPv6:2001:db8::1]", 26 }, { "smart.example:587", "smart.example", 587 },
    };
    struct recipient rcpt = { .addr = { .local = STR("bob"), .domain = STR("here.example") } };
    struct route r, relay;

    (void)state;
    conf.relay_host = "smart.example:587";
    assert_int_equal(route_for_recipient(&arena, &conf, &rcpt, &r), 0);
    assert_int_equal(r.kind, ROUTE_LOCAL);
    for (unsigned i = 0; i < sizeof hops / sizeof hops[0]; i++) {
        rcpt.next_hop = str_of(hops[i].hop);
        assert_int_equal(route_for_recipient(&arena, &conf, &rcpt, &r), 0);
        assert_true(r.kind == ROUTE_HOP && str_eq(r.host, str_of(hops[i].host)) && r.port == hops[i].port);
    }
    rcpt.addr.domain = STR("b.example");
    assert_int_equal(route_for(&arena, &conf, &rcpt.addr, &relay), 0);
    assert_int_equal(relay.kind, ROUTE_HOST);
    assert_true(route_cmp(&relay, &r) != 0);
    conf.relay_host = "";
}

static struct route route_of(const char *domain)
{
    struct address a = { .local = STR("x"), .domain = str_of(domain) };
    struct route r;
    assert_int_equal(route_for(&arena, &conf, &a, &r), 0);
    return r;
}

static void a_domain_may_have_a_delivery_of_its_own(void **state)
{
    static struct conf_delivery by_tcp = { .kind = CONF_DELIVERY_LMTP, .host = STR("box.example"), .port = 24 };
    static struct conf_delivery by_path = { .kind = CONF_DELIVERY_LMTP_UNIX, .path = "/run/lmtp" };
    static struct conf_delivery other_path = { .kind = CONF_DELIVERY_LMTP_UNIX, .path = "/run/lmtp2" };
    static const char *const domains[] = { "one.example", "two.example", "three.example", "four.example" };

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(map_str_put(&conf.local_domains, str_of(domains[i]), &conf), 0);
    conf.relay_host = "smart.example";
    conf.local_delivery = by_path;
    assert_int_equal(map_str_put(&conf.local_delivery_by_domain, STR("one.example"), &by_tcp), 0);
    assert_int_equal(map_str_put(&conf.local_delivery_by_domain, STR("two.example"), &by_tcp), 0);
    assert_int_equal(map_str_put(&conf.local_delivery_by_domain, STR("three.example"), &other_path), 0);
    struct route one = route_of("one.example"), two = route_of("two.example"), three = route_of("three.example"), here = route_of("here.example"),
                 nowhere = route_of(""), four = route_of("four.example");
    assert_int_equal(one.kind, ROUTE_LMTP);
    assert_true(str_eq(one.host, STR("box.example")) && one.port == 24);
    assert_int_equal(three.kind, ROUTE_LMTP_UNIX);
    assert_string_equal(four.path, "/run/lmtp");
    assert_int_equal(route_cmp(&one, &two), 0);
    assert_int_equal(route_cmp(&here, &four), 0);
    assert_int_equal(route_cmp(&here, &nowhere), 0);
    assert_true(route_cmp(&three, &four) != 0 && route_cmp(&one, &three) != 0);
    conf.local_delivery = (struct conf_delivery){ .kind = CONF_DELIVERY_MAILDIR };
    map_str_free(&conf.local_delivery_by_domain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(details_are_left_out), cmocka_unit_test(mailboxes_stay_inside),
        cmocka_unit_test(routes_are_found),
        cmocka_unit_test(one_relay_host_is_one_route),
        cmocka_unit_test(a_recipient_may_go_another_way),
        cmocka_unit_test(a_domain_may_have_a_delivery_of_its_own),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
