/*
 * Aliases files: what is read out of them, and what is refused in which words; the strange ones first.
 */
#include "conf/alias.h"
#include "base/cleanup.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

static struct conf conf;

static const struct { const char *path, *text; } files[] = {
    { "/lists/staff",   "carol@here.example\n# gone: dave\n  eve , \"J. Doe\"@here.example   # two\n\\root\n" },
    { "/lists/empty",   "# nobody\n" },
    { "/lists/self",    "bob, :include:self\n" },
    { "/lists/outer",   "x@else.example\n\":include:/lists/staff\"" },
    { "/lists/command", "bob\n|/bin/sh\n" },
    { "/lists/broken",  "bob\n\"never ends\n" },
};

static const char *text_given;

static int read_file(const char *path, size_t max, struct buf *out)
{
    const char *text = strcmp(path, "/lists/file") == 0 ? text_given : NULL;

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (strcmp(path, files[i].path) == 0)
            text = files[i].text;
    buf_init(out, max);
    if (text == NULL)
        return -ENOENT;
    buf_put_z(out, text);
    return 0;
}

static void begin(void)
{
    conf = (struct conf){ .path = "/lists/conf" };
    arena_init(&conf.arena, 1 << 20);
    assert_int_equal(map_str_put(&conf.local_domains, STR("here.example"), &conf), 0);
    assert_int_equal(map_str_put(&conf.local_domains, STR("xn--bcher-kva.example"), &conf), 0);
    assert_int_equal(map_str_put(&conf.virtual_domains, STR("list.example"), &conf), 0);
}

static void end(void)
{
    map_str_free(&conf.local_domains);
    map_str_free(&conf.virtual_domains);
    map_str_free(&conf.aliases);
    map_str_free(&conf.recipient_rewrites);
    arena_reset(&conf.arena);
}

/* "key(line): target target\n", a target of ours without its domain with nothing behind it. */
static void dump(struct buf *out, const struct conf_alias *a)
{
    for (; a != NULL; a = a->next) {
        buf_printf(out, "%" STR_FMT "(%u):", STR_ARG(a->key), a->line);
        for (size_t i = 0; i < a->target_count; i++) {
            buf_put_z(out, a->targets[i].final ? " \\" : " ");
            if (a->targets[i].addr.local.n > 0)
                address_put(out, &a->targets[i].addr);
            else
                buf_printf(out, "@%" STR_FMT, STR_ARG(a->targets[i].addr.domain));
        }
        buf_put_char(out, '\n');
    }
}

// clang-format off
static const struct { const char *text, *read; } good[] = {
    { "",                                   "" },
    { "# only a comment",                   "" },
    { "\n \n\t\n   # one with blanks\n",    "" },
    { "a: b",                               "a(1): b\n" },
    { "A:b\r\n\r\nC:d\r\n",                 "a(1): b\nc(3): d\n" },
    { "a : b , c,,d,\n",                    "a(1): b c d\n" },
    { "a: b,\n  c\n# in between\n\n\td, e\nf: g", "a(1): b c d e\nf(6): g\n" },
    { "a:\n  b\n  c",                       "a(1): b c\n" },
    { "a: b # c, d\nb: x#y@else.example",   "a(1): b\nb(2): x#y@else.example\n" },
    { "a: \\a, \\\"b c\"",                  "a(1): \\a \\\"b c\"\n" },
    { "\"J. Doe\": j.doe\n\"bob\": carol",  "j. doe(1): j.doe\nbob(2): carol\n" },
    { "\"a:b\": c",                         "a:b(1): c\n" },
    { "\"a, b\": \"c, d\"@else.example, \"e\\\"f\"", "a, b(1): \"c, d\"@else.example \"e\\\"f\"\n" },
    { "a@HERE.example: b@[192.0.2.1]\n@list.example: x@Else.example", "a@here.example(1): b@[192.0.2.1]\n@list.example(2): x@else.example\n" },
    { "a@b\xc3\xbc" "cher.example: h\xc3\xa9l\xc3\xa8ne@b\xc3\xbc" "cher.example", "a@xn--bcher-kva.example(1): h\xc3\xa9l\xc3\xa8ne@xn--bcher-kva.example\n" },
    { "a: /S=x/C=de@else.example",          "a(1): /S=x/C=de@else.example\n" },
    { "a: :include:/lists/staff, b",        "a(1): carol@here.example eve \"J. Doe\"@here.example \\root b\n" },
    { "a: b, :INCLUDE: staff",              "a(1): b carol@here.example eve \"J. Doe\"@here.example \\root\n" },
    { "a: \":include:outer\"",              "a(1): x@else.example carol@here.example eve \"J. Doe\"@here.example \\root\n" },
    { "a: b, :include:/lists/empty",        "a(1): b\n" },
};

static const struct { const char *text, *error; } bad[] = {
    { "a: |/bin/sh",                        "/lists/file:1: \"|/bin/sh\" is a command: none is ever run here" },
    { "a: b,\n  \"|/bin/sh -c x, y\"",      "/lists/file:2: \"\"|/bin/sh -c x, y\"\" is a command" },
    { "a: \\|x",                            "/lists/file:1: \"\\|x\" is a command" },
    { "a: /dev/null",                       "/lists/file:1: \"/dev/null\" is a file" },
    { "a: \"/var/mail/a\"",                 "is a file: mail goes to mailboxes and other servers only" },
    { "a: @else.example",                   "\"@else.example\" is a whole domain" },
    { "a: b c",                             "\"b c\" is neither an address nor a local name nor :include:/path" },
    { "a: b@",                              "\"b@\" is neither an address" },
    { "a: error:5.1.1 gone",                "\"error:5.1.1 gone\" is neither" },
    { "a: Bob <b@else.example>",            "is neither an address" },
    { "a: \"\"",                            "is empty" },
    { "a: \\",                              "is empty" },
    { "a: b\x01",                           "is neither an address" },
    { "a: h\xc3\xa9@else.example",          "is not ASCII: only users of ours may be called so" },
    { "a: \xff",                            "is neither an address" },
    { "a:",                                 "/lists/file:1: \"a\" leads nowhere: it has no target" },
    { "\na: # b\nc: d",                     "/lists/file:2: \"a\" leads nowhere" },
    { "a: :include:/lists/empty",           "\"a\" leads nowhere" },
    { "a: b\na@here.example: c\nA: d",      "/lists/file:3: \"A\" stands at /lists/file:1 too" },
    { "a b",                                "/lists/file:1: an alias is \"name: target, ...\": the colon is missing" },
    { "a: b\n\nbob@here.example carol\n",   "/lists/file:3: an alias is" },
    { ": b",                                "the name before the colon is missing" },
    { "\"a: b\n",                           "/lists/file:1: a quote has no end" },
    { "a: \"b\nc: d",                       "/lists/file:1: a quote has no end" },
    { "  a: b",                             "/lists/file:1: a line that begins with a blank goes on with the alias before it, and there is none" },
    { "a@else.example: b",                  "\"a@else.example\" is in a domain that is not among local_domains" },
    { "@: b",                               "\"@\" is none of \"user\", \"user@domain\" and \"@domain\"" },
    { "a%b: c",                             "\"a%b\" is none of" },
    { "\"a@b\"@here.example: c",            "is none of" },
    { "a!b: c",                             "is none of" },
    { "a: :include:/lists/gone",            "/lists/file:1: cannot read the list /lists/gone: No such file" },
    { "a: b,\n :include:",                  "/lists/file:2: cannot read the list " },
    { "a: :include:self",                   "/lists/self:1: lists are more than 10 deep: does a list include itself?" },
    { "a: :include:command",                "/lists/command:2: \"|/bin/sh\" is a command" },
    { "a: :include:broken",                 "/lists/broken:2: a quote has no end" },
};

static const struct { const char *text, *read; } rewrites[] = {
    { "a@Old.example: b@new.example\n@old.example: @new.example\n@gone.example: x@new.example\nc@old.example: @new.example",
      "a@old.example(1): b@new.example\n@old.example(2): @new.example\n@gone.example(3): x@new.example\nc@old.example(4): @new.example\n" },
    { "a: b@new.example",                   "/lists/file:1: \"a\" is neither \"user@domain\" nor \"@domain\"" },
    { "a@old.example: b",                   "\"b\" is neither \"user@domain\" nor \"@domain\"" },
    { "a@old.example: b@new.example, c@new.example", "\"c@new.example\" is a second target: an address is rewritten to one" },
    { "a@old.example: |x",                  "\"|x\" is neither" },
    { "a@old.example: :include:/lists/staff", "is neither" },
    { "@old.example: @",                    "is neither" },
    { "@old.example:",                      "leads nowhere" },
};
// clang-format on

static int load(const char *text, struct buf *out)
{
    struct alias_loader l = { .c = &conf, .error = out, .read = read_file };

    text_given = text;
    return alias_load_file(&l, "/lists/file", (struct place){ "/lists/conf", 7 });
}

static void reads(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        CLEANUP_BUF struct buf out;
        buf_init(&out, 65536);
        begin();
        int r = load(good[i].text, &out);
        dump(&out, conf.alias_first);
        if (r < 0 || !str_eq(buf_str(&out), str_of(good[i].read)))
            fail_msg("%s\n-> %d %.*s\nwanted %s", good[i].text, r, (int)out.n, out.p, good[i].read);
        end();
    }
}

static void refuses_with_a_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CLEANUP_BUF struct buf out;
        buf_init(&out, 65536);
        begin();
        int r = load(bad[i].text, &out);
        if (r >= 0 || str_find_str(buf_str(&out), str_of(bad[i].error)) < 0)
            fail_msg("%s\n-> %d %.*s\nwanted %s", bad[i].text, r, (int)out.n, out.p, bad[i].error);
        end();
    }
}

static void missing_file_is_told_where_it_is_named(void **state)
{
    CLEANUP_BUF struct buf out;

    (void)state;
    buf_init(&out, 65536);
    begin();
    assert_int_equal(load(NULL, &out), -ENOENT);
    assert_true(str_eq(buf_str(&out), STR("/lists/conf:7: cannot read /lists/file: No such file or directory\n")));
    end();
}

static const struct conf_alias *by_line(unsigned line)
{
    size_t cursor = 0;
    struct str key;
    void *value;

    while (map_str_next(&conf.recipient_rewrites, &cursor, &key, &value))
        if (((struct conf_alias *)value)->line == line)
            return value;
    return NULL;
}

static void reads_rewritings(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rewrites / sizeof rewrites[0]; i++) {
        CLEANUP_BUF struct buf out;
        buf_init(&out, 65536);
        begin();
        struct alias_loader l = { .c = &conf, .error = &out, .read = read_file };
        text_given = rewrites[i].text;
        (void)alias_load_rewrites(&l, &conf.recipient_rewrites, "/lists/file", (struct place){ "/lists/conf", 7 });
        for (unsigned line = 1; by_line(line) != NULL; line++)
            dump(&out, by_line(line));
        if (str_find_str(buf_str(&out), str_of(rewrites[i].read)) < 0)
            fail_msg("%s\n-> %.*s\nwanted %s", rewrites[i].text, (int)out.n, out.p, rewrites[i].read);
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(refuses_with_a_place),
        cmocka_unit_test(missing_file_is_told_where_it_is_named),
        cmocka_unit_test(reads_rewritings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
