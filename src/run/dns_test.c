/*
 * DNS: rdata and names octet by octet, then real queries to zone files in a closed network, and to a forwarder of our own that
 * is silent at first. Nothing here leaves the machine.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "run/dns_internal.h"
#include "run/loop.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unbound.h>
#include <unistd.h>

#define MANY       200 /* records in the largest set; over DNS_RECORDS_MAX */
#define CONCURRENT 1000
#define IN_TIME    (5 * NS_PER_S)

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 1024 * 1024);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_reset(&arena);
    return 0;
}

/* ---- rdata ---- */

#define OCTETS(literal) (const uint8_t *)(literal), sizeof(literal) - 1

// clang-format off
static const struct {
    enum dns_type  type;
    const uint8_t *rdata;
    size_t         n;
    int            r;
    const char    *text;             /* the record as format_record writes it */
} rdata_cases[] = {
    { DNS_A,    OCTETS("\300\0\2\1"),                          0,        "192.0.2.1"        },
    { DNS_A,    OCTETS("\300\0\2"),                            -EBADMSG, NULL               },
    { DNS_A,    OCTETS("\300\0\2\1\0"),                        -EBADMSG, NULL               },
    { DNS_A,    OCTETS(""),                                    -EBADMSG, NULL               },
    { DNS_AAAA, OCTETS(" \1\r\270\0\0\0\0\0\0\0\0\0\0\0\1"),   0,        "2001:db8::1"      },
    { DNS_AAAA, OCTETS("\300\0\2\1"),                          -EBADMSG, NULL               },
    { DNS_MX,   OCTETS("\0\0\0"),                              0,        "0 ''"             },   /* null MX (RFC 7505, 3) */
    { DNS_MX,   OCTETS("\1\2\2MX\1a\0"),                       0,        "258 'mx.a'"       },
    { DNS_MX,   OCTETS("\0\12"),                               -EBADMSG, NULL               },   /* no name */
    { DNS_MX,   OCTETS("\0\12\2mx"),                           -EBADMSG, NULL               },   /* the name has no end */
    { DNS_MX,   OCTETS("\0\12\3mx"),                           -EBADMSG, NULL               },   /* a label beyond the end */
    { DNS_MX,   OCTETS("\0\12\77mx\0"),                        -EBADMSG, NULL               },
    { DNS_MX,   OCTETS("\0\12\2mx\0\0"),                       -EBADMSG, NULL               },   /* one octet more */
    { DNS_MX,   OCTETS("\0\12\300\14"),                        -EBADMSG, NULL               },   /* a compression pointer */
    { DNS_MX,   OCTETS("\0\12\2mx\300\14"),                    -EBADMSG, NULL               },
    { DNS_MX,   OCTETS("\0\12\3m.x\0"),                        -EBADMSG, NULL               },   /* a dot inside a label is not two labels */
    { DNS_MX,   OCTETS("\0\12\3m\0x\0"),                       -EBADMSG, NULL               },
    { DNS_MX,   OCTETS("\0\12\3m\nx\0"),                       -EBADMSG, NULL               },
    { DNS_MX,   OCTETS("\0\12\3m\\x\0"),                       -EBADMSG, NULL               },
    { DNS_MX,   OCTETS("\0\12\3m\303x\0"),                     -EBADMSG, NULL               },
    { DNS_PTR,  OCTETS("\1A\3b_c\0"),                          0,        "'a.b_c'"          },
    { DNS_PTR,  OCTETS("\0"),                                  0,        "''"               },
    { DNS_PTR,  OCTETS(""),                                    -EBADMSG, NULL               },
    { DNS_TXT,  OCTETS("\3abc\0\2 d"),                         0,        "\"abc d\""        },
    { DNS_TXT,  OCTETS("\0"),                                  0,        "\"\""             },
    { DNS_TXT,  OCTETS(""),                                    -EBADMSG, NULL               },
    { DNS_TXT,  OCTETS("\4abc"),                               -EBADMSG, NULL               },
    { DNS_TXT,  OCTETS("\3abc\1"),                             -EBADMSG, NULL               },
    { DNS_TLSA, OCTETS("\3\1\1\253\315"),                      0,        "3 1 1 abcd"       },
    { DNS_TLSA, OCTETS("\3\1\1"),                              -EBADMSG, NULL               },
    { DNS_TLSA, OCTETS("\3"),                                  -EBADMSG, NULL               },
};
// clang-format on

static const char *format_record(enum dns_type type, const struct dns_record *record)
{
    static char text[4096];
    size_t used = 0;

    // clang-format off
    switch (type) {
    case DNS_A:    return inet_ntop(AF_INET, record->ip, text, sizeof text);
    case DNS_AAAA: return inet_ntop(AF_INET6, record->ip, text, sizeof text);
    case DNS_PTR:  (void)snprintf(text, sizeof text, "'%" STR_FMT "'", STR_ARG(record->name)); return text;
    case DNS_MX:   (void)snprintf(text, sizeof text, "%u '%" STR_FMT "'", record->preference, STR_ARG(record->name)); return text;
    case DNS_TXT:  (void)snprintf(text, sizeof text, "\"%" STR_FMT "\"", STR_ARG(record->text)); return text;
    case DNS_TLSA:
        used = (size_t)snprintf(text, sizeof text, "%u %u %u ", record->usage, record->selector, record->matching);
        for (size_t i = 0; i < record->text.n; i++)
            used += (size_t)snprintf(text + used, sizeof text - used, "%02x", (unsigned char)record->text.p[i]);
        return text;
    }
    // clang-format on
    return NULL;
}

static void rdata_is_read_strictly(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rdata_cases / sizeof rdata_cases[0]; i++) {
        struct dns_record record = { .preference = 4711 };
        /* a copy of exactly this size, so that ASan sees a read beyond it */
        uint8_t *rdata = malloc(rdata_cases[i].n + !rdata_cases[i].n);
        memcpy(rdata, rdata_cases[i].rdata, rdata_cases[i].n);
        int r = dns_parse_rdata(&arena, rdata_cases[i].type, rdata, rdata_cases[i].n, &record);
        free(rdata);
        if (r != rdata_cases[i].r)
            fail_msg("case %zu: %d", i, r);
        if (r == 0)
            assert_string_equal(format_record(rdata_cases[i].type, &record), rdata_cases[i].text);
        else
            assert_int_equal(record.preference, 4711);
    }
}

static void names_have_their_limits_in_rdata(void **state)
{
    uint8_t rdata[2 + 300] = { 0 };
    struct dns_record record;

    (void)state;
    for (size_t i = 0; i < 4; i++) { /* 63 63 63 61: 255 octets with the root, the longest there is */
        rdata[2 + i * 64] = i < 3 ? 63 : 61;
        memset(rdata + 2 + i * 64 + 1, 'a', 63);
    }
    rdata[2 + 254] = 0;
    assert_int_equal(dns_parse_rdata(&arena, DNS_MX, rdata, 2 + 255, &record), 0);
    assert_int_equal(record.name.n, 253);
    rdata[2 + 192] = 62;
    rdata[2 + 254] = 'a';
    assert_int_equal(dns_parse_rdata(&arena, DNS_MX, rdata, 2 + 256, &record), -EBADMSG);
    rdata[2] = 64;
    assert_int_equal(dns_parse_rdata(&arena, DNS_MX, rdata, 2 + 256, &record), -EBADMSG);
}

static void names_are_cleaned(void **state)
{
    char longest[255];
    struct str out;

    (void)state;
    // clang-format off
    static const struct { const char *name, *clean; } cases[] = {
        { "A.Example.", "a.example" }, { "a", "a" }, { "", "" }, { ".", "" }, { "_25._tcp.MX", "_25._tcp.mx" },
        { "..", NULL }, { "a..b", NULL }, { ".a", NULL }, { "a..", NULL },
    };
    // clang-format on
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int r = dns_name_clean(&arena, str_of(cases[i].name), &out);
        assert_int_equal(r, cases[i].clean != NULL ? 0 : -EINVAL);
        if (r == 0)
            assert_true(str_eq(out, str_of(cases[i].clean)));
    }
    memset(longest, 'a', sizeof longest);
    longest[63] = longest[127] = longest[191] = '.';
    assert_int_equal(dns_name_clean(&arena, (struct str){ longest, 253 }, &out), 0);
    assert_int_equal(dns_name_clean(&arena, (struct str){ longest, 254 }, &out), -EINVAL);
    longest[253] = '.';
    assert_int_equal(dns_name_clean(&arena, (struct str){ longest, 254 }, &out), 0);
    longest[63] = 'a';
    assert_int_equal(dns_name_clean(&arena, (struct str){ longest, 64 }, &out), -EINVAL);
}

static void reverse_names(void **state)
{
    static const uint8_t ip6[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 0x1a };

    (void)state;
    assert_true(str_eq(dns_reverse_name(&arena, (const uint8_t *)"\300\0\2\1", 4), STR("1.2.0.192.in-addr.arpa")));
    assert_true(str_eq(dns_reverse_name(&arena, ip6, 16), STR("a.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa")));
}

/* ---- zone files ---- */

static char folder[] = "/tmp/dns-test.XXXXXX";

static const char *path_of(const char *name)
{
    static char paths[32][64];
    static unsigned next;

    char *path = paths[next++ % 32];
    (void)snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

#define SOA "$TTL 300\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n"

// clang-format off
static const char a_zone[] = "$ORIGIN a.example.\n" SOA "@        IN MX 20 MX2\n"
                             "@        IN MX 10 mx1.b.example.\n"
                             "@        IN TXT \"v=spf1 ip4:192.0.2.0/24 \" \"-all\"\n"
                             "mx2      IN A 192.0.2.2\n"
                             "mx2      IN AAAA 2001:db8::2\n"
                             "www      IN CNAME a.example.\n"                /* CNAME to a name with MX */
                             "far      IN CNAME far.b.example.\n"            /* into another zone, and back */
                             "nowhere  IN CNAME nowhere.b.example.\n"
                             "outside  IN CNAME www.outside.example.\n"
                             "round    IN CNAME round2\n"
                             "round2   IN CNAME round\n"
                             "*.wild   IN MX 5 mx2\n"
                             "*.alias  IN CNAME mx2\n"
                             "null     IN MX 0 .\n"
                             "odd      IN MX 1 o\\.dd\n"                     /* its one record cannot be read */
                             "half     IN MX 1 o\\.dd\n"
                             "half     IN MX 2 mx2\n"
                             "sp\\032ace IN TXT \"found\"\n"
                             "_25._tcp.mx2 IN TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n";
// clang-format on
static const char b_zone[] = SOA "mx1 IN A 192.0.2.11\nfar IN CNAME mx2.a.example.\n";
static const char reverse_zone[] = "$ORIGIN 2.0.192.in-addr.arpa.\n" SOA "2 IN PTR MX2.a.example.\n";

static void write_big_zone(void)
{
    FILE *file = fopen(path_of("big.zone"), "w");
    assert_non_null(file);
    (void)fputs("$ORIGIN big.example.\n" SOA, file);
    for (unsigned i = 0; i < MANY; i++)
        (void)fprintf(file, "many IN A 198.51.100.%u\nmx IN MX %u m%u\n", i, i, i);
    for (unsigned i = 0; i < CONCURRENT; i++)
        (void)fprintf(file, "n%u IN TXT \"%u\"\n", i, i);
    assert_int_equal(fclose(file), 0);
}

static int make_zones(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    write_file("a.zone", a_zone);
    write_file("b.zone", b_zone);
    write_file("reverse.zone", reverse_zone);
    write_file("lost.zone", SOA);
    write_file("broken.zone", "$ORIGIN broken.example.\n" SOA "mx IN A 192.0.2.256\n");
    write_file("root.zone", "$ORIGIN .\n" SOA "x.test. IN A 192.0.2.77\nwww.localhost. IN A 192.0.2.78\n");
    write_big_zone();
    return 0;
}

static int remove_zones(void **state)
{
    static const char *const names[] = { "a.zone", "b.zone", "reverse.zone", "lost.zone", "broken.zone", "root.zone", "big.zone" };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void)unlink(path_of(names[i]));
    return rmdir(folder);
}

static const char *b_spec(void)
{
    static char spec[128];
    (void)snprintf(spec, sizeof spec, "B.Example=%s", path_of("b.zone"));
    return spec;
}

static void start(const struct dns_options *options)
{
    char error[256] = "";
    if (dns_start(options, error) != 0)
        fail_msg("dns_start: %s", error);
}

static void start_with_zones(void)
{
    const char *zones[] = { path_of("a.zone"), b_spec(), path_of("reverse.zone"), path_of("big.zone"), NULL };
    start(&(struct dns_options){ .zone_files = zones });
}

static void wrong_options_are_said(void **state)
{
    // clang-format off
    const struct {
        const char *const *zones, *const *forwarders;
        const char        *anchor;
        int                r;
        const char        *says;
    } cases[] = {
        { (const char *[]){ path_of("none.zone"), NULL }, NULL, NULL, -ENOENT, "none.zone: No such file" },
        { (const char *[]){ path_of("lost.zone"), NULL }, NULL, NULL, -EINVAL, "no $ORIGIN" },
        { (const char *[]){ path_of("broken.zone"), NULL }, NULL, NULL, -EINVAL, "broken.zone 7:8: Conversion error" },
        { (const char *[]){ "a..b=/dev/null", NULL }, NULL, NULL, -EINVAL, "not the name of a zone" },
        { (const char *[]){ "=/dev/null", NULL }, NULL, NULL, -EINVAL, "not the name of a zone" },
        { (const char *[]){ "a.example=x\"y", NULL }, NULL, NULL, -EINVAL, "unprintable" },
        { (const char *[]){ path_of("a.zone"), path_of("a.zone"), NULL }, NULL, NULL, -EINVAL, "another file" },
        { NULL, (const char *[]){ "127.0.0.1@0", NULL }, NULL, -EINVAL, "not a forwarder" },
        { NULL, (const char *[]){ "ns.example", NULL }, NULL, -EINVAL, "not a forwarder" },
        { NULL, (const char *[]){ "127.0.0.1\"\nserver:", NULL }, NULL, -EINVAL, "not a forwarder" },
        { NULL, NULL, path_of("none.key"), -ENOENT, "none.key: No such file" },
        { (const char *[]){ path_of("b.zone"), NULL }, NULL, path_of("b.zone"), -EINVAL, "no $ORIGIN" },
        { (const char *[]){ path_of("a.zone"), NULL }, NULL, path_of("broken.zone"), -EINVAL, "broken.zone" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dns_options options = { .zone_files = cases[i].zones,
                                       .forwarders = cases[i].forwarders,
                                       .trust_anchor_file = cases[i].anchor };
        char error[256] = "";
        int r = dns_start(&options, error);
        if (r != cases[i].r || strstr(error, cases[i].says) == NULL)
            fail_msg("case %zu: %d, \"%s\" without \"%s\"", i, r, error, cases[i].says);
    }
}

// clang-format off
static const struct {
    const char     *name;
    enum dns_type   type;
    enum dns_status status;
    const char     *canonical;
    const char     *records[3];      /* in any order */
} query_cases[] = {
    { "null.a.example",          DNS_MX,   DNS_FOUND,    "null.a.example",   { "0 ''" }                                   },
    { "odd.a.example",           DNS_MX,   DNS_SERVFAIL, "odd.a.example",    { NULL }                                     },
    { "half.a.example",          DNS_MX,   DNS_FOUND,    "half.a.example",   { "2 'mx2.a.example'" }                      },
    { "A.eXample.",              DNS_MX,   DNS_FOUND,    "a.example",        { "10 'mx1.b.example'", "20 'mx2.a.example'" } },
    { "www.a.example",           DNS_MX,   DNS_FOUND,    "a.example",        { "10 'mx1.b.example'", "20 'mx2.a.example'" } },
    { "far.a.example",           DNS_A,    DNS_FOUND,    "mx2.a.example",    { "192.0.2.2" }                              },
    { "nowhere.a.example",       DNS_A,    DNS_NO_NAME,  "nowhere.b.example", { NULL }                                    },
    { "outside.a.example",       DNS_A,    DNS_SERVFAIL, NULL,               { NULL }                                     },
    { "round.a.example",         DNS_A,    DNS_SERVFAIL, NULL,               { NULL }                                     },
    { "deep.x.wild.a.example",   DNS_MX,   DNS_FOUND,    "deep.x.wild.a.example", { "5 'mx2.a.example'" }                 },
    { "x.wild.a.example",        DNS_A,    DNS_NO_DATA,  "x.wild.a.example", { NULL }                                     },
    { "x.alias.a.example",       DNS_AAAA, DNS_FOUND,    "mx2.a.example",    { "2001:db8::2" }                            },
    { "wild.a.example",          DNS_MX,   DNS_NO_DATA,  "wild.a.example",   { NULL }                                     },   /* an empty non-terminal is a name */
    { "mx2.a.example",           DNS_TXT,  DNS_NO_DATA,  "mx2.a.example",    { NULL }                                     },
    { "mx3.a.example",           DNS_TXT,  DNS_NO_NAME,  "mx3.a.example",    { NULL }                                     },
    { "a.example",               DNS_TXT,  DNS_FOUND,    "a.example",        { "\"v=spf1 ip4:192.0.2.0/24 -all\"" }       },
    { "sp ace.a.example",        DNS_TXT,  DNS_FOUND,    "sp ace.a.example", { "\"found\"" }                              },
    { "sp\\032ace.a.example",    DNS_TXT,  DNS_NO_NAME,  NULL,               { NULL }                                     },   /* names are octets, not master-file text */
    { "\xc3\xa4.a.example",      DNS_TXT,  DNS_NO_NAME,  NULL,               { NULL }                                     },
    { "2.2.0.192.in-addr.arpa",  DNS_PTR,  DNS_FOUND,    "2.2.0.192.in-addr.arpa", { "'mx2.a.example'" }                  },
    { "3.2.0.192.in-addr.arpa",  DNS_PTR,  DNS_NO_NAME,  NULL,               { NULL }                                     },
    { "_25._tcp.mx2.a.example",  DNS_TLSA, DNS_FOUND,    "_25._tcp.mx2.a.example", { "3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" } },
    { "outside.example",         DNS_MX,   DNS_SERVFAIL, NULL,               { NULL }                                     },   /* a closed network */
    { "example",                 DNS_MX,   DNS_SERVFAIL, NULL,               { NULL }                                     },
    { "",                        DNS_MX,   DNS_SERVFAIL, NULL,               { NULL }                                     },
    { "a..example",              DNS_A,    DNS_NO_NAME,  NULL,               { NULL }                                     },
    { ".a.example",              DNS_A,    DNS_NO_NAME,  NULL,               { NULL }                                     },
};
// clang-format on

static void expect_records(size_t i, const struct dns_answer *answer)
{
    size_t wanted = 0;
    for (; wanted < 3 && query_cases[i].records[wanted] != NULL; wanted++) {
        bool found = false;
        for (size_t j = 0; j < answer->count; j++)
            found |= strcmp(format_record(query_cases[i].type, &answer->records[j]), query_cases[i].records[wanted]) == 0;
        if (!found)
            fail_msg("%s: no %s", query_cases[i].name, query_cases[i].records[wanted]);
    }
    if (wanted != answer->count)
        fail_msg("%s: %zu records", query_cases[i].name, answer->count);
}

static void query_all(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < sizeof query_cases / sizeof query_cases[0]; i++) {
        struct dns_answer answer;
        int64_t before = clock_mono_ns();
        assert_int_equal(dns_query(&arena, str_of(query_cases[i].name), query_cases[i].type, task_deadline_in(IN_TIME), &answer), 0);
        if (answer.status != query_cases[i].status)
            fail_msg("%s: status %d", query_cases[i].name, (int)answer.status);
        if (query_cases[i].canonical != NULL && !str_eq(answer.canonical, str_of(query_cases[i].canonical)))
            fail_msg("%s: canonical %" STR_FMT, query_cases[i].name, STR_ARG(answer.canonical));
        assert_false(answer.secure);
        if (answer.status == DNS_FOUND)
            assert_in_range(answer.ttl_s, 1, 300);
        assert_true(clock_mono_ns() - before < 2 * NS_PER_S);
        expect_records(i, &answer);
    }
}

static void zone_files_are_answered_from(void **state)
{
    (void)state;
    start_with_zones();
    assert_int_equal(loop_run(1, query_all, NULL), 0);
    dns_stop();
}

static void query_root_zone(void *arg)
{
    struct dns_answer answer;

    (void)arg;
    assert_int_equal(dns_query(&arena, STR("x.test"), DNS_A, task_deadline_in(IN_TIME), &answer), 0);
    assert_int_equal(answer.status, DNS_FOUND);
    assert_int_equal(dns_query(&arena, STR("y.test"), DNS_A, task_deadline_in(IN_TIME), &answer), 0);
    assert_int_equal(answer.status, DNS_NO_NAME);
    assert_int_equal(dns_query(&arena, STR("outside.example"), DNS_A, task_deadline_in(IN_TIME), &answer), 0);
    assert_int_equal(answer.status, DNS_NO_NAME); /* the operator's root knows all names */
    assert_int_equal(dns_query(&arena, STR(""), DNS_MX, task_deadline_in(IN_TIME), &answer), 0);
    assert_int_equal(answer.status, DNS_NO_DATA);
}

static void a_zone_file_may_be_the_root(void **state)
{
    const char *zones[] = { path_of("root.zone"), NULL };

    (void)state;
    start(&(struct dns_options){ .zone_files = zones });
    assert_int_equal(loop_run(1, query_root_zone, NULL), 0);
    dns_stop();
}

static void query_big_sets(void *arg)
{
    struct dns_answer answer;

    (void)arg;
    assert_int_equal(dns_query(&arena, STR("many.big.example"), DNS_A, task_deadline_in(IN_TIME), &answer), 0);
    assert_int_equal(answer.status, DNS_FOUND);
    assert_int_equal(answer.count, DNS_RECORDS_MAX);
    assert_int_equal(dns_query(&arena, STR("mx.big.example"), DNS_MX, task_deadline_in(IN_TIME), &answer), 0);
    assert_int_equal(answer.count, DNS_RECORDS_MAX);

    struct arena small;
    arena_init(&small, 256); /* room for the name, not for the records */
    answer.count = 4711;
    assert_int_equal(dns_query(&small, STR("many.big.example"), DNS_A, task_deadline_in(IN_TIME), &answer), -ENOMEM);
    assert_int_equal(answer.count, 4711);
    arena_reset(&small);
}

static void big_sets_are_cut(void **state)
{
    (void)state;
    start_with_zones();
    assert_int_equal(loop_run(1, query_big_sets, NULL), 0);
    dns_stop();
}

/* ---- many at once ---- */

static atomic_uint right_answers;

static void query_one_of_many(void *arg)
{
    struct arena own;
    struct dns_answer answer;
    unsigned i = (unsigned)(uintptr_t)arg;
    char text[16];

    arena_init(&own, 64 * 1024);
    int r = dns_query(&own, str_printf(&own, "n%u.big.example", i), DNS_TXT, task_deadline_in(20 * NS_PER_S), &answer);
    (void)snprintf(text, sizeof text, "%u", i);
    if (r == 0 && answer.status == DNS_FOUND && answer.count == 1 && str_eq(answer.records[0].text, str_of(text)))
        (void)atomic_fetch_add(&right_answers, 1);
    arena_reset(&own);
}

static void start_half(void *arg)
{
    for (uintptr_t i = (uintptr_t)arg; i < CONCURRENT; i += 2)
        if (task_start("query", query_one_of_many, (void *)i) != 0)
            return;
}

static void start_both_halves(void *arg)
{
    (void)arg;
    (void)loop_start_on(1, "half", start_half, (void *)1);
    start_half((void *)0);
}

static void many_queries_from_two_loops(void **state)
{
    (void)state;
    start_with_zones();
    atomic_store(&right_answers, 0);
    assert_int_equal(loop_run(2, start_both_halves, NULL), 0);
    dns_stop();
    assert_int_equal(atomic_load(&right_answers), CONCURRENT);
}

/* ---- a forwarder that is silent at first ---- */

static struct {
    int fd;
    atomic_bool silent;
    atomic_bool stop;
    atomic_uint asked;
    pthread_t thread;
    char address[32];
} server;

/* Nothing while it is silent; then NXDOMAIN, without records, to every question. */
static void *serve(void *arg)
{
    (void)arg;
    while (!atomic_load(&server.stop)) {
        uint8_t packet[1500];
        struct sockaddr_storage from;
        socklen_t from_n = sizeof from;
        struct pollfd ready = { .fd = server.fd, .events = POLLIN };
        if (poll(&ready, 1, 20) <= 0)
            continue;
        ssize_t n = recvfrom(server.fd, packet, sizeof packet, 0, (struct sockaddr *)&from, &from_n);
        (void)atomic_fetch_add(&server.asked, 1);
        if (n < 12 || atomic_load(&server.silent))
            continue;
        packet[2] |= 0x80; /* a response */
        packet[3] = 0x83;  /* recursion available, NXDOMAIN */
        (void)sendto(server.fd, packet, (size_t)n, 0, (struct sockaddr *)&from, from_n);
    }
    return NULL;
}

static void start_server(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof at;

    server.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(server.fd >= 0);
    assert_int_equal(bind(server.fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(server.fd, (struct sockaddr *)&at, &n), 0);
    (void)snprintf(server.address, sizeof server.address, "127.0.0.1@%u", ntohs(at.sin_port));
    atomic_store(&server.silent, true);
    atomic_store(&server.stop, false);
    atomic_store(&server.asked, 0);
    assert_int_equal(pthread_create(&server.thread, NULL, serve, NULL), 0);
    const char *forwarders[] = { server.address, NULL };
    start(&(struct dns_options){ .forwarders = forwarders, .trust_anchor_file = "" });
}

static void stop_server(void)
{
    dns_stop();
    atomic_store(&server.stop, true);
    (void)pthread_join(server.thread, NULL);
    (void)close(server.fd);
}

static void query_past_the_deadline(void *arg)
{
    struct dns_answer answer = { .count = 4711 };

    (void)arg;
    assert_int_equal(dns_query(&arena, STR("silent.example"), DNS_A, task_deadline_in(50 * NS_PER_MS), &answer), -ETIMEDOUT);
    assert_int_equal(answer.count, 4711);
    assert_int_equal(dns_query(&arena, STR("silent.example"), DNS_MX, clock_mono_ns() - 1, &answer), -ETIMEDOUT);
}

static void a_deadline_passes(void **state)
{
    (void)state;
    start_server();
    assert_int_equal(loop_run(1, query_past_the_deadline, NULL), 0);
    stop_server(); /* with the questions still open */
}

/* The first is abandoned; libunbound goes on asking for it, and its answer serves the second. */
static void query_twice(void *arg)
{
    struct dns_answer answer;

    (void)arg;
    assert_int_equal(dns_query(&arena, STR("late.example"), DNS_A, task_deadline_in(20 * NS_PER_MS), &answer), -ETIMEDOUT);
    atomic_store(&server.silent, false);
    assert_int_equal(dns_query(&arena, STR("late.example"), DNS_A, task_deadline_in(2 * IN_TIME), &answer), 0);
    assert_int_equal(answer.status, DNS_NO_NAME);
    assert_true(str_eq(answer.canonical, STR("late.example")));
}

static void a_late_answer_finds_nobody_and_is_kept(void **state)
{
    (void)state;
    start_server();
    assert_int_equal(loop_run(1, query_twice, NULL), 0);
    stop_server();
}

static int cancelled_query;

static void query_until_cancelled(void *arg)
{
    struct dns_answer answer;

    (void)arg;
    cancelled_query = dns_query(&arena, STR("silent.example"), DNS_A, TASK_FOREVER, &answer);
}

static void cancel_query(void *arg)
{
    struct task_group group;

    (void)arg;
    task_group_init(&group);
    assert_int_equal(task_group_start(&group, "query", query_until_cancelled, NULL), 0);
    assert_int_equal(task_sleep(50 * NS_PER_MS), 0);
    task_group_cancel(&group);
    assert_int_equal(task_group_wait(&group, TASK_FOREVER), 0);
    assert_int_equal(cancelled_query, -ECANCELED);
}

static void a_query_is_cancelled(void **state)
{
    (void)state;
    start_server();
    assert_int_equal(loop_run(1, cancel_query, NULL), 0);
    stop_server();
}

static void query_wrong_names(void *arg)
{
    struct dns_answer answer;
    char name[300];

    (void)arg;
    memset(name, 'a', sizeof name);
    assert_int_equal(dns_query(&arena, (struct str){ name, 64 }, DNS_A, task_deadline_in(IN_TIME), &answer), 0);
    assert_int_equal(answer.status, DNS_NO_NAME);
    for (size_t i = 60; i < sizeof name; i += 60)
        name[i] = '.';
    assert_int_equal(dns_query(&arena, (struct str){ name, 254 }, DNS_A, task_deadline_in(IN_TIME), &answer), 0);
    assert_int_equal(answer.status, DNS_NO_NAME);
}

static void what_is_no_name_is_not_asked(void **state)
{
    (void)state;
    start_server();
    assert_int_equal(loop_run(1, query_wrong_names, NULL), 0);
    assert_int_equal(atomic_load(&server.asked), 0);
    stop_server();
}

/* ---- a libunbound that goes deaf ---- */

/* Before libunbound's own: the first context to be asked while this is set is deaf from then on, and its end never comes. */
static struct {
    atomic_bool go_deaf;
    _Atomic(struct ub_ctx *) ctx;
    atomic_uint swallowed;
    atomic_bool let_end;
} deaf;

int ub_resolve_async(struct ub_ctx *ctx, const char *name, int type, int class, void *arg, ub_callback_type callback, int *id)
{
    int (*next)(struct ub_ctx *, const char *, int, int, void *, ub_callback_type, int *);

    *(void **)&next = dlsym(RTLD_NEXT, "ub_resolve_async");
    if (atomic_exchange(&deaf.go_deaf, false))
        atomic_store(&deaf.ctx, ctx);
    if (ctx != atomic_load(&deaf.ctx))
        return next(ctx, name, type, class, arg, callback, id);
    (void)atomic_fetch_add(&deaf.swallowed, 1);
    return 0;
}

void ub_ctx_delete(struct ub_ctx *ctx)
{
    void (*next)(struct ub_ctx *);

    *(void **)&next = dlsym(RTLD_NEXT, "ub_ctx_delete");
    while (ctx == atomic_load(&deaf.ctx) && !atomic_load(&deaf.let_end))
        (void)poll(NULL, 0, 10);
    next(ctx);
    if (ctx == atomic_load(&deaf.ctx))
        atomic_store(&deaf.ctx, NULL);
}

static void begin_deafness(void)
{
    atomic_store(&deaf.let_end, false);
    atomic_store(&deaf.swallowed, 0);
    atomic_store(&deaf.go_deaf, true);
}

static void end_deafness(void)
{
    atomic_store(&deaf.let_end, true);
    for (unsigned i = 0; atomic_load(&deaf.ctx) != NULL; i++) {
        assert_true(i < 1000);
        (void)poll(NULL, 0, 10);
    }
}

static int waiting_query = 4711;
static enum dns_status waiting_status;

static void query_and_wait(void *arg)
{
    struct dns_answer answer;
    struct arena own;

    (void)arg;
    arena_init(&own, 64 * 1024);
    waiting_query = dns_query(&own, STR("a.example"), DNS_MX, TASK_FOREVER, &answer);
    waiting_status = waiting_query == 0 ? answer.status : DNS_FOUND;
    arena_reset(&own);
}

/* One waits without a deadline of its own, and three are missed; then it hears again, and the one that waited has been told. */
static void query_the_deaf(void *arg)
{
    struct dns_answer answer = { .status = DNS_SERVFAIL };
    int64_t until = clock_mono_ns() + 20 * NS_PER_S;

    (void)arg;
    begin_deafness();
    assert_int_equal(task_start("waiting", query_and_wait, NULL), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(dns_query(&arena, STR("a.example"), DNS_MX, task_deadline_in(50 * NS_PER_MS), &answer), -ETIMEDOUT);
    while (answer.status != DNS_FOUND && clock_mono_ns() < until)
        (void)dns_query(&arena, STR("a.example"), DNS_MX, task_deadline_in(100 * NS_PER_MS), &answer);
    assert_int_equal(answer.status, DNS_FOUND);
    assert_int_equal(waiting_query, 0);
    assert_int_equal(waiting_status, DNS_SERVFAIL);
}

static void the_deaf_is_replaced(void **state)
{
    (void)state;
    start_with_zones();
    assert_int_equal(loop_run(1, query_the_deaf, NULL), 0);
    dns_stop(); /* while the old one still does not end */
    end_deafness();
}

/* No more is put into its pipe than there is room for. */
static void query_the_deaf_often(void *arg)
{
    struct dns_answer answer;
    unsigned refused = 0;

    (void)arg;
    begin_deafness();
    for (unsigned i = 0; i < 600; i++) {
        int r = dns_query(&arena, STR("a.example"), DNS_MX, task_deadline_in(1 * NS_PER_MS), &answer);
        refused += r == 0 && answer.status == DNS_SERVFAIL;
    }
    assert_in_range(refused, 300, 400);
    assert_in_range(atomic_load(&deaf.swallowed), 200, 300);
}

static void the_deaf_is_not_asked_for_long(void **state)
{
    (void)state;
    start_with_zones();
    assert_int_equal(loop_run(1, query_the_deaf_often, NULL), 0);
    int64_t before = clock_mono_ns();
    dns_stop();
    assert_in_range(clock_mono_ns() - before, 0, 15 * NS_PER_S); /* it does not wait for it for ever */
    end_deafness();
}

static atomic_uint deaf_lines;

static void count_deaf_lines(void *arg, enum log_level level, struct str line)
{
    (void)arg, (void)level;
    if (str_find_str(line, STR("dns-deaf")) >= 0)
        (void)atomic_fetch_add(&deaf_lines, 1);
}

/* The network is dead, and libunbound is not. */
static void query_the_silent(void *arg)
{
    struct dns_answer answer;

    (void)arg;
    for (unsigned i = 0; i < 30; i++)
        (void)dns_query(&arena, STR("silent.example"), DNS_A, task_deadline_in(20 * NS_PER_MS), &answer);
    assert_int_equal(task_sleep(500 * NS_PER_MS), 0); /* some turns of the pump */
    atomic_store(&server.silent, false);
    assert_int_equal(dns_query(&arena, STR("silent.example"), DNS_A, task_deadline_in(2 * IN_TIME), &answer), 0);
    assert_int_equal(answer.status, DNS_NO_NAME);
}

static void the_silent_is_not_deaf(void **state)
{
    (void)state;
    start_server();
    atomic_store(&deaf_lines, 0);
    log_redirect(count_deaf_lines, NULL);
    assert_int_equal(loop_run(1, query_the_silent, NULL), 0);
    log_redirect(NULL, NULL);
    stop_server();
    assert_int_equal(atomic_load(&deaf_lines), 0);
}

/* ---- another resolver behind it ---- */

static int answer_by_itself(void *self, struct arena *a, struct str name, enum dns_type type, int64_t deadline_ns, struct dns_answer *out)
{
    (void)a, (void)deadline_ns;
    assert_int_equal(type, DNS_MX);
    *out = (struct dns_answer){ .status = DNS_NO_DATA, .secure = true, .canonical = name, .ttl_s = *(uint32_t *)self };
    return 0;
}

static void another_resolver_gets_clean_names(void **state)
{
    uint32_t ttl_s = 77;
    struct dns_answer answer;

    (void)state;
    dns_replace(&(struct dns_ops){ .query = answer_by_itself, .self = &ttl_s });
    assert_int_equal(dns_query(&arena, STR("A.Example."), DNS_MX, TASK_FOREVER, &answer), 0);
    assert_true(answer.secure && answer.ttl_s == 77 && str_eq(answer.canonical, STR("a.example")));
    assert_int_equal(dns_query(&arena, STR("a..example"), DNS_MX, TASK_FOREVER, &answer), 0);
    assert_int_equal(answer.status, DNS_NO_NAME);
    dns_replace(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rdata_is_read_strictly),
        TEST(names_have_their_limits_in_rdata),
        TEST(names_are_cleaned),
        TEST(reverse_names),
        TEST(wrong_options_are_said),
        TEST(zone_files_are_answered_from),
        TEST(a_zone_file_may_be_the_root),
        TEST(big_sets_are_cut),
        TEST(many_queries_from_two_loops),
        TEST(a_deadline_passes),
        TEST(a_late_answer_finds_nobody_and_is_kept),
        TEST(a_query_is_cancelled),
        TEST(what_is_no_name_is_not_asked),
        TEST(the_deaf_is_replaced),
        TEST(the_deaf_is_not_asked_for_long),
        TEST(the_silent_is_not_deaf),
        TEST(another_resolver_gets_clean_names),
    };
    return cmocka_run_group_tests(tests, make_zones, remove_zones);
}
