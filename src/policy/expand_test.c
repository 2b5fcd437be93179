/*
 * The way of an address, as tables of aliases and what they come to; circles and what only looks like one first.
 */
#include "policy/expand.h"
#include "base/cleanup.h"
#include "conf/alias.h"
#include "policy/alias.h"
#include "policy/alias_check.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct conf  *conf;
static struct arena  arena;
static const char   *file_text;          /* of the only file there is */

#define YES ((void *)&arena)

static int read_file(const char *path, size_t max, struct buf *out)
{
    buf_init(out, max);
    if (strcmp(path, "rewrites") != 0 && strcmp(path, "aliases") != 0)
        return -ENOENT;
    buf_put_z(out, file_text);
    return 0;
}

static void put_domain(struct map_str *map, const char *name)
{
    assert_int_equal(map_str_put(map, str_of(name), YES), 0);
}

/* here.example and too.example have mailboxes of bob, carol, dave and "dave+x", and eve and ann one of them each; list.example has aliases only, backup.example is relayed to. */
static void begin(bool users)
{
    static struct conf c;
    static const char *const who[] = { "bob", "carol", "dave", "dave+x", "h\xc3\xa9l\xc3\xa8ne" };

    c = (struct conf){ .hostname = "here.example", .path = "conf", .recipient_delimiter = "+", .alias_recipients_max = 100, .have_users_file = users };
    conf = &c;
    arena_init(&c.arena, 64 << 20);
    arena_init(&arena, 1 << 20);
    put_domain(&c.local_domains, "here.example");
    put_domain(&c.local_domains, "too.example");
    put_domain(&c.local_domains, "xn--bcher-kva.example");
    put_domain(&c.virtual_domains, "list.example");
    put_domain(&c.relay_domains, "backup.example");
    put_domain(&c.relay_recipients, "kim@backup.example");
    put_domain(&c.users, "eve@too.example");
    put_domain(&c.users, "ann@here.example");
    for (size_t i = 0; i < sizeof who / sizeof who[0]; i++)
        put_domain(&c.users, who[i]);
}

static void load(const char *aliases, const char *rewrites)
{
    char text[4096];
    struct buf error;
    struct alias_loader l = { .c = conf, .error = &error, .read = read_file };

    buf_init_fixed(&error, text, sizeof text);
    file_text = aliases;
    int r = alias_load_file(&l, "aliases", (struct place){ "conf", 1 });
    file_text = rewrites;
    if (r == 0 && rewrites != NULL)
        r = alias_load_rewrites(&l, &conf->recipient_rewrites, "rewrites", (struct place){ "conf", 2 });
    if (r < 0)
        fail_msg("%s\n-> %.*s", aliases, (int)error.n, error.p);
}

static void end(void)
{
    map_str_free(&conf->local_domains);
    map_str_free(&conf->virtual_domains);
    map_str_free(&conf->relay_domains);
    map_str_free(&conf->relay_recipients);
    map_str_free(&conf->users);
    map_str_free(&conf->aliases);
    map_str_free(&conf->recipient_rewrites);
    arena_reset(&conf->arena);
    arena_reset(&arena);
}

static void put_end(struct buf *out, const struct expand_node *n)
{
    static const char marks[] = { [EXPAND_OPEN] = '.', [EXPAND_LOCAL] = '=', [EXPAND_REMOTE] = '>', [EXPAND_UNKNOWN] = '?', [EXPAND_DENIED] = '!' };

    if (n->end == EXPAND_GOES_ON)
        return;
    buf_put_z(out, out->n > 0 ? " " : "");
    buf_put_char(out, marks[n->end]);
    address_put(out, &n->addr);
}

/* "=bob@here.example >x@y.example", or the way to a circle. Without a list of users only bob has a Maildir. */
static enum expand_result expand(const char *rcpt, bool trusted, struct buf *out)
{
    struct expansion x;
    struct address addr;
    enum expand_result r;

    if (!address_parse_with(&arena, str_of(rcpt), ADDRESS_BARE | ADDRESS_UTF8, &addr))
        fail_msg("cannot read %s", rcpt);
    expand_begin(&x, conf, trusted, &addr);
    while ((r = expand_step(&x)) == EXPAND_LOOK)
        expand_answer(&x, str_eq(expand_asked(&x)->local, STR("bob")));
    for (size_t i = 0; r == EXPAND_DONE && i < x.count; i++)
        put_end(out, &x.nodes[i]);
    if (r != EXPAND_DONE)
        expand_put_loop(out, &x);
    expand_free(&x);
    return r;
}

#define DONE EXPAND_DONE
#define LOOP EXPAND_LOOP

// clang-format off
static const struct { const char *aliases, *rcpt, *ends; enum expand_result result; } cases[] = {
    /* circles, and what is none */
    { "a: b\nb: a",                         "a@here.example",       "a@here.example -> b@here.example -> a@here.example", LOOP },
    { "a: b+1\nb: a+2",                     "a@here.example",       "a@here.example -> b+1@here.example -> a+2@here.example", LOOP },
    { "a: b\nb: c\nc: b",                   "a@here.example",       "a@here.example -> b@here.example -> c@here.example -> b@here.example", LOOP },
    { "@here.example: x@too.example\n@too.example: y@here.example", "q@here.example",
                                            "q@here.example -> x@too.example -> y@here.example -> x@too.example", LOOP },
    { "@here.example: x@too.example\n@too.example: q@here.example", "q@here.example",
                                            "q@here.example -> x@too.example -> q@here.example", LOOP },
    { "bob: bob, carol",                    "bob@here.example",     "=bob@here.example =carol@here.example", DONE },
    { "bob: carol, BOB",                    "Bob@here.example",     "=carol@here.example =BOB@here.example", DONE },
    { "bob: bob+all, carol",                "bob@here.example",     "=bob+all@here.example =carol@here.example", DONE },
    { "bob: \\bob, carol",                  "bob@here.example",     "=bob@here.example =carol@here.example", DONE },
    { "a: \\bob\nbob: carol",               "a@here.example",       "=bob@here.example", DONE },
    { "a: a",                               "a@here.example",       "?a@here.example", DONE },
    { "@here.example: nobody@here.example", "q@here.example",       "?nobody@here.example", DONE },
    { "@here.example: nobody",              "nobody@here.example",  "?nobody@here.example", DONE },
    { "all: a, bob\na: bob, carol\nbob: bob, dave", "all@here.example", "=carol@here.example =bob@here.example =dave@here.example", DONE },
    { "a: b, c\nb: d\nc: d\nd: bob",        "a@here.example",       "=bob@here.example", DONE },
    { "a: a@too.example",                   "a@here.example",       "?a@too.example", DONE },   /* one alias, good for both */
    { "bob: bob@too.example",               "bob@here.example",     "=bob@too.example", DONE },

    /* which alias: the longest name first, then the domain */
    { "bob: x@1.example\nbob+d: x@2.example\nbob@here.example: x@3.example\nbob+d@here.example: x@4.example", "bob+d@here.example", ">x@4.example", DONE },
    { "bob: x@1.example\nbob+d: x@2.example\nbob@here.example: x@3.example",   "BOB+D@here.example", ">x@2.example", DONE },
    { "bob: x@1.example\nbob@here.example: x@3.example",   "bob+d@here.example", ">x@3.example", DONE },
    { "bob: x@1.example\nbob@here.example: x@3.example",   "bob+d@too.example",  ">x@1.example", DONE },
    { "@here.example: x@1.example\n@list.example: x@2.example", "bob@here.example", "=bob@here.example", DONE },
    { "@here.example: x@1.example",         "bob+d@here.example",   "=bob+d@here.example", DONE },
    { "@here.example: x@1.example",         "other@here.example",   ">x@1.example", DONE },
    { "@here.example: x@1.example",         "other@too.example",    "?other@too.example", DONE },
    { "@list.example: bob",                 "any+x@list.example",   "=bob@here.example", DONE },
    { "dave: x@1.example",                  "dave+y@here.example",  ">x@1.example", DONE },
    { "dave: x@1.example",                  "dave+x@here.example",  "=dave+x@here.example", DONE },   /* a user of that name */
    { "",                                   "bob+x+y@here.example", "=bob+x+y@here.example", DONE },
    { "",                                   "+bob@here.example",    "?+bob@here.example", DONE },
    { "+: carol",                           "+bob@here.example",    "?+bob@here.example", DONE },

    /* domains */
    { "info: bob",                          "info@too.example",     "=bob@too.example", DONE },
    { "info: bob",                          "info@list.example",    "?info@list.example", DONE },     /* bare names are of local domains */
    { "info: eve",                          "info@here.example",    "?eve@here.example", DONE },
    { "info: eve",                          "info@too.example",     "=eve@too.example", DONE },
    { "info: ann",                          "info@too.example",     "=ann@here.example", DONE },      /* is nobody there, and somebody at home */
    { "ann: ann, eve",                      "ann@too.example",      "=ann@here.example =eve@too.example", DONE },
    { "info@list.example: bob, kim@backup.example", "info@list.example", "=bob@here.example >kim@backup.example", DONE },
    { "info@backup.example: bob",           "info@backup.example",  "=bob@here.example", DONE },
    { "info@b\xc3\xbc" "cher.example: bob@b\xc3\xbc" "cher.example", "info@B\xc3\xbc" "cher.example", "=bob@xn--bcher-kva.example", DONE },
    { "h\xc3\xa9l\xc3\xa8ne+f: x@1.example", "h\xc3\xa9l\xc3\xa8ne@here.example", "=h\xc3\xa9l\xc3\xa8ne@here.example", DONE },
    { "jos\xc3\xa9: bob",                   "JOSe\xcc\x81+x@here.example", "=bob@here.example", DONE },     /* NFC, and not */
    { "\"J. Doe\": bob",                    "\"j. doe\"@here.example", "=bob@here.example", DONE },
    { "bob: x@1.example",                   "bob@1.example",        "!bob@1.example", DONE },
    { "a: b@else.example",                  "a@here.example",       ">b@else.example", DONE },        /* the alias may go where a stranger may not */

    /* routes of old times open nothing */
    { "@here.example: bob\nv: bob",         "v%else.example@here.example", "?v%else.example@here.example", DONE },
    { "@here.example: bob",                 "else.example!v@here.example", "?else.example!v@here.example", DONE },

    /* postmaster */
    { "",                                   "postmaster",           "=postmaster", DONE },
    { "",                                   "Postmaster@list.example", "=Postmaster", DONE },
    { "@here.example: bob",                 "postmaster@here.example", "=postmaster@here.example", DONE },
    { "postmaster: root\nroot: bob",        "POSTMASTER",           "=bob@here.example", DONE },
    { "postmaster: root\nroot: bob",        "postmaster@too.example", "=bob@too.example", DONE },
    { "postmaster: bob",                    "postmaster@backup.example", ">postmaster@backup.example", DONE },
    { "postmaster@list.example: carol",     "postmaster@list.example", "=carol@here.example", DONE },
};
// clang-format on

static void expands(void **state)
{
    char memory[4096];
    struct buf ends;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(true);
        load(cases[i].aliases, NULL);
        buf_init_fixed(&ends, memory, sizeof memory);
        enum expand_result r = expand(cases[i].rcpt, false, &ends);
        if (r != cases[i].result || !str_eq(buf_str(&ends), str_of(cases[i].ends)))
            fail_msg("%s\n%s -> %d %.*s\nwanted %s", cases[i].aliases, cases[i].rcpt, r, (int)ends.n, ends.p, cases[i].ends);
        end();
    }
}

static void check_ends(const char *rcpt, bool trusted, enum expand_result wanted, const char *ends)
{
    char memory[4096];
    struct buf out;

    buf_init_fixed(&out, memory, sizeof memory);
    enum expand_result r = expand(rcpt, trusted, &out);
    if (r != wanted || !str_eq(buf_str(&out), str_of(ends)))
        fail_msg("%s -> %d %.*s\nwanted %s", rcpt, r, (int)out.n, out.p, ends);
}

/* Who has no Maildir is caught; a circle can show only there. */
static void asks_for_mailboxes(void **state)
{
    (void)state;
    begin(false);
    load("@here.example: other@too.example\n@too.example: more@here.example\n@xn--bcher-kva.example: bob\nteam: bob, gone", NULL);
    check_ends("bob@here.example", false, EXPAND_DONE, "=bob@here.example");
    check_ends("any@xn--bcher-kva.example", false, EXPAND_DONE, "=bob@xn--bcher-kva.example");
    check_ends("team@xn--bcher-kva.example", false, EXPAND_DONE, "=bob@xn--bcher-kva.example");
    check_ends("any@here.example", false, EXPAND_LOOP,
               "any@here.example -> other@too.example -> more@here.example -> other@too.example");
    end();
}

static void option_names_postmaster(void **state)
{
    struct conf_target target = { .file = "conf", .line = 3 };
    struct conf_alias option = { .key = STR("postmaster"), .targets = &target, .target_count = 1, .file = "conf", .line = 3 };

    (void)state;
    begin(true);
    assert_true(address_parse(&arena, STR("ann@else.example"), &target.addr));
    conf->postmaster_alias = &option;
    load("postmaster: bob\npostmaster@too.example: carol", NULL);
    check_ends("postmaster", false, EXPAND_DONE, ">ann@else.example");
    check_ends("PostMaster@here.example", false, EXPAND_DONE, ">ann@else.example");
    check_ends("postmaster@list.example", false, EXPAND_DONE, ">ann@else.example");
    check_ends("postmaster@too.example", false, EXPAND_DONE, "=carol@too.example");
    check_ends("postmaster@backup.example", false, EXPAND_DONE, ">postmaster@backup.example");
    check_ends("postmaster@else.example", false, EXPAND_DONE, "!postmaster@else.example");
    assert_true(address_parse(&arena, STR("postmaster@here.example"), &target.addr));
    check_ends("postmaster@here.example", false, EXPAND_DONE, "=postmaster@here.example");
    check_ends("postmaster", false, EXPAND_DONE, "=postmaster@here.example");
    end();
}

static void rewrites_once_and_first(void **state)
{
    (void)state;
    begin(true);
    load("new: carol\nold: dave",
         "old@here.example: new@here.example\n@moved.example: @here.example\n@here.example: @moved.example\n"
         "bob@here.example: bob@here.example\n@too.example: all@else.example\n@gone.example: x@else.example");
    check_ends("old@here.example", false, EXPAND_DONE, "=carol@here.example");
    check_ends("OLD@here.example", false, EXPAND_DONE, "=carol@here.example");
    check_ends("bob@moved.example", false, EXPAND_DONE, "=bob@here.example");
    check_ends("bob@here.example", false, EXPAND_DONE, "=bob@here.example");
    check_ends("carol@here.example", false, EXPAND_DONE, ">carol@moved.example");   /* ours: the table may send it on */
    check_ends("any@too.example", false, EXPAND_DONE, ">all@else.example");
    check_ends("any@gone.example", false, EXPAND_DONE, "!x@else.example");           /* not ours: no way for strangers */
    check_ends("any@gone.example", true, EXPAND_DONE, ">x@else.example");
    check_ends("v%else.example@here.example", true, EXPAND_DONE, "?v%else.example@here.example");
    end();
}

/* A chain of `length` aliases. */
static void chain(unsigned length)
{
    static char text[16384];
    struct buf b;

    buf_init_fixed(&b, text, sizeof text - 1);
    for (unsigned i = 0; i < length; i++)
        buf_printf(&b, "a%u: a%u\n", i, i + 1);
    buf_printf(&b, "a%u: bob\n", length);
    text[b.n] = '\0';
    load(text, NULL);
}

static void long_chains_end(void **state)
{
    char memory[8192];
    struct buf out;

    (void)state;
    begin(true);
    chain(EXPAND_DEPTH_MAX - 1);
    check_ends("a0@here.example", false, EXPAND_DONE, "=bob@here.example");
    end();
    begin(true);
    chain(EXPAND_DEPTH_MAX);
    buf_init_fixed(&out, memory, sizeof memory);
    assert_int_equal(expand("a0@here.example", false, &out), EXPAND_TOO_DEEP);
    check_ends("a1@here.example", false, EXPAND_DONE, "=bob@here.example");
    end();
}

/* 2^40 ways through 40 diamonds, and each alias is followed once. */
static void diamonds_cost_their_size(void **state)
{
    char text[8192], memory[1024];
    struct buf b, out;

    (void)state;
    buf_init_fixed(&b, text, sizeof text - 1);
    for (unsigned i = 0; i < 20; i++)
        buf_printf(&b, "a%u: b%u, c%u\nb%u: a%u\nc%u: a%u\n", i, i, i, i, i + 1, i, i + 1);
    buf_put_z(&b, "a20: bob\n");
    text[b.n] = '\0';
    begin(true);
    load(text, NULL);
    buf_init_fixed(&out, memory, sizeof memory);
    assert_int_equal(expand("a0@here.example", false, &out), EXPAND_DONE);
    assert_true(str_eq(buf_str(&out), STR("=bob@here.example")));
    end();
}

static void wide_aliases_have_a_limit(void **state)
{
    char text[8192], memory[8192];
    struct buf b, out;

    (void)state;
    for (unsigned count = 100; count <= 101; count++) {
        buf_init_fixed(&b, text, sizeof text - 1);
        buf_put_z(&b, "all: ");
        for (unsigned i = 0; i < count; i++)
            buf_printf(&b, "u%u@else.example,\n  ", i);
        text[b.n] = '\0';
        begin(true);
        load(text, NULL);
        buf_init_fixed(&out, memory, sizeof memory);
        assert_int_equal(expand("all@here.example", false, &out), count == 100 ? EXPAND_DONE : EXPAND_TOO_MANY);
        end();
    }
}

/* -- the check ---------------------------------------------------------------------------------------------------------------- */

// clang-format off
static const struct { const char *aliases, *errors; } checks[] = {
    { "bob: bob, carol\nteam: bob, x@else.example\n@too.example: carol\n@list.example: bob", "" },
    { "a: b\nb: a",                 "aliases:1: aliases go in a circle: a@H -> b@H -> a@H\n" },
    { "c: a\na: b\nb: a",           "aliases:2: aliases go in a circle: a@H -> b@H -> a@H\n" },
    { "b: a\n\nc: b\na: c\nd: b\n", "aliases:1: aliases go in a circle: b@H -> a@H -> c@H -> b@H\n" },
    { "@list.example: x@list.example\nx@list.example: y@list.example\ny@list.example: x@list.example\n",
                                    "aliases:2: aliases go in a circle: x@list.example -> y@list.example -> x@list.example\n" },
    { "team: bob,\n carol,\n gone\n", "aliases:3: the target \"gone@H\" is neither a user nor an alias\n" },
    { "a: x@list.example",          "aliases:1: the target \"x@list.example\" is no alias, and its domain has no mailboxes\n" },
    { "a: x@backup.example",        "aliases:1: the target \"x@backup.example\" is not in relay_recipients_file\n" },
    { "a: gone\nb: a\n",            "aliases:1: the target \"gone@H\" is neither a user nor an alias\n" },
    { "@here.example: gone",        "aliases:1: the target \"gone@H\" is neither a user nor an alias\n" },
    { "a: a",                       "aliases:1: the target \"a@H\" is neither a user nor an alias\n" },
};
// clang-format on

/* Which of the local domains a bare alias is tried in first is not told: H stands for it. */
static bool same_but_for_domain(struct str got, const char *wanted)
{
    static const char *const domains[] = { "here.example", "too.example", "xn--bcher-kva.example" };
    char memory[2048];

    for (size_t d = 0; d < 3; d++) {
        struct buf b;
        buf_init_fixed(&b, memory, sizeof memory);
        for (const char *p = wanted; *p != '\0'; p++)
            if (*p == 'H')
                buf_put_z(&b, domains[d]);
            else
                buf_put_char(&b, *p);
        if (str_eq(buf_str(&b), got))
            return true;
    }
    return false;
}

static void checks_the_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        CLEANUP_BUF struct buf error;
        buf_init(&error, 65536);
        begin(true);
        load(checks[i].aliases, NULL);
        bool ok = alias_check(conf, &error);
        if (ok != (checks[i].errors[0] == '\0') || !same_but_for_domain(buf_str(&error), checks[i].errors))
            fail_msg("%s\n-> %d %.*s\nwanted %s", checks[i].aliases, ok, (int)error.n, error.p, checks[i].errors);
        end();
    }
}

// clang-format off
static const struct { const char *aliases, *hostname, *error; } names[] = {
    { "boss: eve",                      "here.example",    "" },          /* an alias at too.example only */
    { "boss: ann",                      "here.example",    "" },
    { "boss: ann, eve",                 "here.example",    "aliases:1: the target \"eve@here.example\" is neither a user nor an alias\n" },
    { "boss: eve@too.example, ann",     "here.example",    "" },
    { "boss: ann, eve",                 "mx.else.example", "aliases:1: the target \"" },
    { "x@list.example: bob",            "here.example",    "" },
    { "x@list.example: bob",            "mx.else.example", "aliases:1: the target \"bob\" is in no domain: with several local_domains, and hostname not "
                                                           "among them, write name@domain\n" },
};
// clang-format on

static void checks_local_names_in_every_domain(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        CLEANUP_BUF struct buf error;
        buf_init(&error, 65536);
        begin(true);
        conf->hostname = names[i].hostname;
        load(names[i].aliases, NULL);
        bool ok = alias_check(conf, &error);
        if (ok != (names[i].error[0] == '\0') || !str_starts(buf_str(&error), str_of(names[i].error)))
            fail_msg("%s\n-> %d %.*s\nwanted %s", names[i].aliases, ok, (int)error.n, error.p, names[i].error);
        end();
    }
}

static void without_a_list_everybody_may_be_somebody(void **state)
{
    CLEANUP_BUF struct buf error;

    (void)state;
    buf_init(&error, 65536);
    begin(false);
    load("a: gone\n@here.example: other@too.example\n@too.example: more@here.example", NULL);
    assert_true(alias_check(conf, &error));
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expands),
        cmocka_unit_test(asks_for_mailboxes),
        cmocka_unit_test(option_names_postmaster),
        cmocka_unit_test(rewrites_once_and_first),
        cmocka_unit_test(long_chains_end),
        cmocka_unit_test(diamonds_cost_their_size),
        cmocka_unit_test(wide_aliases_have_a_limit),
        cmocka_unit_test(checks_the_whole),
        cmocka_unit_test(checks_local_names_in_every_domain),
        cmocka_unit_test(without_a_list_everybody_may_be_somebody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
