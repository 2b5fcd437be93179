/*
 * What stands in the envelope of a message to aliases: who gets it, by which name, and what the sender wants to hear. And what an arena that
 * is full, or a refusal half-way, leaves behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "conf/alias.h"
#include "inbound/session_internal.h"
#include <stdlib.h>
#include <string.h>

static struct session *s;
static const char     *aliases;

static int read_file(const char *path, size_t max, struct buf *out)
{
    (void)path;
    buf_init(out, max);
    buf_put_z(out, aliases);
    return 0;
}

/* Bob and carol are users of here.example, where jos\xc3\xa9 is an alias. */
static struct conf *make_conf(const char *text)
{
    struct conf *c = calloc(1, sizeof *c);
    struct buf error;
    struct alias_loader l = { .c = c, .error = &error, .read = read_file };

    assert_non_null(c);
    *c = (struct conf){ .refs = 1, .hostname = "here.example", .path = "conf", .recipient_delimiter = "+", .recipients_max = 100,
                        .alias_recipients_max = 10, .have_users_file = true };
    arena_init(&c->arena, 1 << 20);
    assert_int_equal(map_str_put(&c->local_domains, STR("here.example"), c), 0);
    assert_int_equal(map_str_put(&c->users, STR("bob"), c), 0);
    assert_int_equal(map_str_put(&c->users, STR("carol"), c), 0);
    buf_init(&error, 4096);
    aliases = text;
    assert_int_equal(alias_load_file(&l, "aliases", (struct place){ "conf", 1 }), 0);
    buf_free(&error);
    return c;
}

static void begin(const char *text)
{
    s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->conf = make_conf(text);
    transaction_init(&s->transaction, s->conf->recipients_max + s->conf->alias_recipients_max);
}

static void end(void)
{
    transaction_reset(&s->transaction);
    conf_unref(s->conf);
    free(s);
}

/* As command.c does it: nothing stays of one that changed nothing. */
static int rcpt(const char *args, bool trusted)
{
    struct arena_mark before = arena_mark(&s->transaction.arena);
    size_t count = s->transaction.rcpt_count;
    struct rcpt_args named;

    if (smtp_parse_rcpt_utf8(&s->transaction.arena, str_of(args), &named, NULL) != SMTP_OK)
        fail_msg("cannot read %s", args);
    struct reply r = recipient_add(s, &named, trusted);
    if (s->transaction.rcpt_count == count)
        arena_rewind(&s->transaction.arena, before);
    return r.code;
}

/* "bob@here.example<team@here.example> 4 rfc822;team@here.example, ..." */
static void check_rcpts(const char *wanted)
{
    CLEANUP_BUF struct buf out;

    buf_init(&out, 65536);
    for (size_t i = 0; i < s->transaction.rcpt_count; i++) {
        const struct recipient *r = &s->transaction.rcpts[i];
        buf_put_z(&out, i > 0 ? ", " : "");
        address_put(&out, &r->addr);
        if (!address_is_null(&r->rewritten_from))
            address_put_path(&out, &r->rewritten_from);
        if (r->notify != 0 || r->original.n > 0)
            buf_printf(&out, " %u %" STR_FMT, r->notify, STR_ARG(r->original));
    }
    if (!str_eq(buf_str(&out), str_of(wanted)))
        fail_msg("%.*s\nwanted %s", (int)out.n, out.p, wanted);
}

// clang-format off
static const struct { const char *aliases; const char *rcpts[4]; const char *wanted; } cases[] = {
    { "team: bob, x@else.example", { "TO:<team@here.example>" },
      "bob@here.example<team@here.example> 0 rfc822;team@here.example, x@else.example<team@here.example> 0 rfc822;team@here.example" },
    { "team: bob, x@else.example", { "TO:<Team+a@here.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old@else.example" },
      "bob@here.example<Team+a@here.example> 10 rfc822;old@else.example, x@else.example<Team+a@here.example> 10 rfc822;old@else.example" },
    { "team: bob", { "TO:<team@here.example> NOTIFY=NEVER" }, "bob@here.example<team@here.example> 1 rfc822;team@here.example" },
    { "bob: carol, bob", { "TO:<bob@here.example>" },
      "carol@here.example<bob@here.example> 0 rfc822;bob@here.example, bob@here.example 0 rfc822;bob@here.example" },
    { "bob: bob, carol", { "TO:<bob@here.example>" }, "bob@here.example, carol@here.example<bob@here.example> 0 rfc822;bob@here.example" },
    { "jos\xc3\xa9: bob", { "TO:<JOSe\xcc\x81+a=b@here.example>" },
      "bob@here.example<JOSe\xcc\x81+a=b@here.example> 0 utf-8;JOSe\\x{301}\\x{2B}a\\x{3D}b@here.example" },
    /* whoever is there already, whichever way, gets one copy, by the first name */
    { "team: bob, carol", { "TO:<BOB@here.example> NOTIFY=NEVER", "TO:<team@here.example>", "TO:<bob@here.example>" },
      "BOB@here.example 1 , carol@here.example<team@here.example> 0 rfc822;team@here.example" },
    { "a: b\nb: bob", { "TO:<a@here.example>", "TO:<b@here.example>", "TO:<bob@here.example>" },
      "bob@here.example<a@here.example> 0 rfc822;a@here.example" },
    { "a: x@else.example", { "TO:<a@here.example>", "TO:<a@here.example>" }, "x@else.example<a@here.example> 0 rfc822;a@here.example" },
    { "a: x@else.example, X@else.example", { "TO:<a@here.example>" },
      "x@else.example<a@here.example> 0 rfc822;a@here.example, X@else.example<a@here.example> 0 rfc822;a@here.example" },
};
// clang-format on

static void envelopes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(cases[i].aliases);
        for (size_t k = 0; k < 4 && cases[i].rcpts[k] != NULL; k++)
            assert_int_equal(rcpt(cases[i].rcpts[k], false), 250);
        check_rcpts(cases[i].wanted);
        end();
    }
}

static void refusals_leave_nothing(void **state)
{
    (void)state;
    begin("good: bob, x@else.example\nbad: carol, gone\nround: a\na: round\nwide: 1@e.example, 2@e.example, 3@e.example, 4@e.example, 5@e.example,"
          "6@e.example, 7@e.example, 8@e.example, 9@e.example, 10@e.example, 11@e.example");
    assert_int_equal(rcpt("TO:<bad@here.example>", false), 451);       /* only a table too large to be checked can say so */
    assert_int_equal(rcpt("TO:<round@here.example>", false), 451);
    assert_int_equal(rcpt("TO:<wide@here.example>", false), 451);
    assert_int_equal(rcpt("TO:<gone@here.example>", false), 550);
    assert_int_equal(rcpt("TO:<x@else.example>", false), 550);
    check_rcpts("");
    assert_int_equal(rcpt("TO:<good@here.example>", false), 250);
    assert_int_equal(s->transaction.rcpt_count, 2);
    assert_int_equal(rcpt("TO:<bad@here.example>", false), 451);
    assert_int_equal(s->transaction.rcpt_count, 2);
    end();
}

/* At whichever allocation the arena is full: all of an alias or nothing, and what was there stays. */
static void full_arenas_leave_nothing(void **state)
{
    size_t refused = 0;

    (void)state;
    for (size_t room = 0; room < 6000; room += 8) {
        begin("team: 1@e.example, 2@e.example, 3@e.example, 4@e.example, bob, carol");
        assert_int_equal(rcpt("TO:<bob@here.example>", false), 250);
        struct rcpt_args named;
        assert_int_equal(smtp_parse_rcpt(&s->transaction.arena, STR("TO:<team@here.example>"), &named, NULL), SMTP_OK);
        size_t limit = s->transaction.arena.limit;
        s->transaction.arena.limit = s->transaction.arena.used + room;
        struct reply r = recipient_add(s, &named, false);
        assert_int_equal(s->transaction.rcpt_count, r.code == 250 ? 6 : 1);
        assert_true(r.code == 250 || r.code == 452);
        refused += r.code != 250;
        s->transaction.arena.limit = limit;
        s->transaction.arena.failed = false;
        assert_int_equal(rcpt("TO:<team@here.example>", false), 250);
        assert_int_equal(s->transaction.rcpt_count, 6);
        end();
    }
    assert_true(refused > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(envelopes),
        cmocka_unit_test(refusals_leave_nothing),
        cmocka_unit_test(full_arenas_leave_nothing),
    };
    log_level_set(LOG_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
