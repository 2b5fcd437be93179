/*
 * run/sim_dns: zone text and the answers from it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/clock.h"
#include "run/dns.h"
#include "run/sim.h"
#include <errno.h>
#include <string.h>

static const char zone[] = "; a comment\n"
                           "example.       300 IN MX 10 MX1.Example. ; the first\n"
                           "\t\t60 IN MX 20 mx2.example.\r\n"
                           "\n"
                           "null.example.  IN MX 0 .\n"
                           "mx1.example.   120 A 192.0.2.1\n"
                           "mx1.example.   AAAA 2001:db8::1\n"
                           "t.example.     TXT \"v=spf1 \" \"-all\" \"; \\\"q\\\" \\065\" ; joined\n"
                           "bare.example.  TXT v=spf1\n"
                           "alias.example. 10 CNAME t.example.\n"
                           "dangling.example. CNAME nowhere.example.\n"
                           "loop1.example. CNAME loop2.example.\n"
                           "loop2.example. CNAME loop1.example.\n"
                           "*.wild.example. A 192.0.2.7\n"
                           "here.wild.example. TXT x\n"
                           "deep.down.example. A 192.0.2.8\n"
                           "_25._tcp.mx1.example. TLSA 3 1 1 00ff 10AB\n"
                           "1.2.0.192.in-addr.arpa. PTR mx1.example.\n"
                           "broken.example. A 192.0.2.9\n"
                           "signed.test. A 192.0.2.10\n"
                           "half.signed.test. CNAME t.example.\n";

static const struct {
    const char *name;
    enum dns_type type;
    enum dns_status status;
    size_t count;
    const char *canonical;
    uint32_t ttl_s;
} cases[] = {
    { "EXAMPLE.",             DNS_MX,   DNS_FOUND,    2, "example",            60  },
    { "null.example",         DNS_MX,   DNS_FOUND,    1, "null.example",       300 },
    { "mx1.example",          DNS_MX,   DNS_NO_DATA,  0, "mx1.example",        300 },
    { "mx3.example",          DNS_A,    DNS_NO_NAME,  0, "mx3.example",        300 },
    { "down.example",         DNS_A,    DNS_NO_DATA,  0, "down.example",       300 },   /* only names below it */
    { "alias.example",        DNS_TXT,  DNS_FOUND,    1, "t.example",          10  },
    { "alias.example",        DNS_A,    DNS_NO_DATA,  0, "t.example",          10  },
    { "dangling.example",     DNS_A,    DNS_NO_NAME,  0, "nowhere.example",    300 },
    { "loop1.example",        DNS_A,    DNS_SERVFAIL, 0, NULL,                 300 },
    { "any.wild.example",     DNS_A,    DNS_FOUND,    1, "any.wild.example",   300 },
    { "a.b.wild.example",     DNS_A,    DNS_FOUND,    1, "a.b.wild.example",   300 },
    { "any.wild.example",     DNS_MX,   DNS_NO_DATA,  0, "any.wild.example",   300 },
    { "here.wild.example",    DNS_A,    DNS_NO_DATA,  0, "here.wild.example",  300 },   /* it exists: no wildcard */
    { "x.here.wild.example",  DNS_A,    DNS_NO_NAME,  0, NULL,                 300 },   /* its closest ancestor has none */
    { "wild.example",         DNS_A,    DNS_NO_DATA,  0, "wild.example",       300 },
    { "broken.example",       DNS_A,    DNS_BOGUS,    0, NULL,                 300 },
};

static const char *const broken[] = {
    "a.example. 300 IN MX mx.example.\n",
    "a.example. A 192.0.2\n",
    "a.example. TXT \"open\n",
    "a.example. TXT\n",
    "a.example.\n",
    " A 192.0.2.1\n",                                                       /* of whom? */
    "a.example. A 192.0.2.1 192.0.2.2\n",
    "a.example. TLSA 3 1 1 0g\n",
    "a.example. SRV 1 1 1 b.\n",
    "$ORIGIN example.\n",
};

static void ask(struct arena *arena, const char *name, enum dns_type type, struct dns_answer *out)
{
    assert_int_equal(dns_query(arena, str_of(name), type, TASK_FOREVER, out), 0);
}

static void check_records(struct arena *arena)
{
    struct dns_answer a;
    ask(arena, "example", DNS_MX, &a);
    unsigned first = a.records[0].preference == 10 ? 0 : 1;
    assert_true(str_eq(a.records[first].name, STR("mx1.example")));
    assert_int_equal(a.records[1 - first].preference, 20);
    ask(arena, "null.example", DNS_MX, &a);
    assert_int_equal(a.records[0].name.n, 0);
    ask(arena, "mx1.example", DNS_A, &a);
    assert_memory_equal(a.records[0].ip, "\xc0\x00\x02\x01", 4);
    ask(arena, "mx1.example", DNS_AAAA, &a);
    assert_memory_equal(a.records[0].ip, "\x20\x01\x0d\xb8", 4);
    ask(arena, "t.example", DNS_TXT, &a);
    assert_true(str_eq(a.records[0].text, STR("v=spf1 -all; \"q\" A")));
    ask(arena, "bare.example", DNS_TXT, &a);
    assert_true(str_eq(a.records[0].text, STR("v=spf1")));
    ask(arena, "_25._tcp.mx1.example", DNS_TLSA, &a);
    assert_int_equal(a.records[0].usage * 100 + a.records[0].selector * 10 + a.records[0].matching, 311);
    assert_int_equal(a.records[0].text.n, 4);
    assert_memory_equal(a.records[0].text.p, "\x00\xff\x10\xab", 4);
    ask(arena, "1.2.0.192.in-addr.arpa", DNS_PTR, &a);
    assert_true(str_eq(a.records[0].name, STR("mx1.example")));
}

static void check_trust(struct arena *arena)
{
    struct dns_answer a;
    ask(arena, "signed.test", DNS_A, &a);
    assert_true(a.secure);
    ask(arena, "nothing.signed.test", DNS_A, &a);
    assert_true(a.secure && a.status == DNS_NO_NAME);
    ask(arena, "half.signed.test", DNS_TXT, &a);                           /* leads to a name that is not signed */
    assert_true(!a.secure && a.status == DNS_FOUND);
    ask(arena, "unsigned.test", DNS_A, &a);
    assert_false(a.secure);
    sim_dns_heal();
    ask(arena, "broken.example", DNS_A, &a);
    assert_int_equal(a.status, DNS_FOUND);
}

static void check_time(struct arena *arena)
{
    struct dns_answer a;
    int64_t before = clock_mono_ns();
    sim_dns_latency(50 * NS_PER_MS, 50 * NS_PER_MS);
    ask(arena, "example", DNS_MX, &a);
    assert_int_equal(clock_mono_ns() - before, 50 * NS_PER_MS);
    before = clock_mono_ns();
    assert_int_equal(dns_query(arena, STR("example"), DNS_MX, task_deadline_in(10 * NS_PER_MS), &a), -ETIMEDOUT);
    assert_int_equal(clock_mono_ns() - before, 10 * NS_PER_MS);
}

static int64_t lie(void *arg, struct arena *arena, struct str name, enum dns_type type, struct dns_answer *answer)
{
    (void)arg, (void)arena;
    if (type != DNS_MX || !str_eq(name, STR("example")))
        return 0;
    answer->status = DNS_NO_NAME;
    answer->count = 0;
    return NS_PER_S;
}

static void check_lies(struct arena *arena)
{
    struct dns_answer a;
    sim_dns_latency(0, 0);
    sim_dns_lie(lie, NULL);
    int64_t before = clock_mono_ns();
    ask(arena, "example", DNS_MX, &a);
    assert_int_equal(a.status, DNS_NO_NAME);
    assert_int_equal(clock_mono_ns() - before, NS_PER_S);
    assert_int_equal(dns_query(arena, STR("example"), DNS_MX, task_deadline_in(10 * NS_PER_MS), &a), -ETIMEDOUT);
    sim_dns_lie(NULL, NULL);
    ask(arena, "example", DNS_MX, &a);
    assert_int_equal(a.status, DNS_FOUND);
}

static void queries(void *arg)
{
    struct arena arena;
    (void)arg;
    assert_int_equal(sim_dns_zone(zone), 0);
    sim_dns_fail("Broken.example.", DNS_BOGUS);
    sim_dns_secure("signed.test");
    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dns_answer a;
        ask(&arena, cases[i].name, cases[i].type, &a);
        if (a.status != cases[i].status || a.count != cases[i].count || a.ttl_s != cases[i].ttl_s)
            fail_msg("%s: status %d, %zu records, ttl %u", cases[i].name, (int)a.status, a.count, a.ttl_s);
        if (cases[i].canonical != NULL)
            assert_true(str_eq(a.canonical, str_of(cases[i].canonical)));
    }
    check_records(&arena);
    check_trust(&arena);
    check_time(&arena);
    check_lies(&arena);
    arena_reset(&arena);
}

static void names_are_answered(void **state)
{
    (void)state;
    sim_begin(&(struct sim_options){ .seed = 3 });
    assert_int_equal(sim_run(queries, NULL), 0);
    sim_end();
}

static void broken_lines_are_refused(void **state)
{
    (void)state;
    sim_begin(&(struct sim_options){ .seed = 3 });
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        if (sim_dns_zone(broken[i]) != -EINVAL)
            fail_msg("accepted: %s", broken[i]);
    sim_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_answered),
        cmocka_unit_test(broken_lines_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
