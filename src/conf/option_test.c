/*
 * The table of options, the table of blocks and nightmail.conf(5) name the same options, with the same defaults. Reads the manual page
 * from the tree's top, where the tests run.
 */
#include "conf/option.h"
#include "base/cleanup.h"
#include "conf/scan.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#define MANUAL "docs/nightmail.conf.5"

static struct buf manual;

static int read_manual(void **state)
{
    char part[4096];
    FILE *f = fopen(MANUAL, "re");

    (void)state;
    assert_non_null(f);
    buf_init(&manual, 1 << 20);
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;)
        buf_put(&manual, part, n);
    fclose(f);
    return buf_ok(&manual) ? 0 : -1;
}

static int free_manual(void **state)
{
    (void)state;
    buf_free(&manual);
    return 0;
}

/* What stands behind ".It Ic name", up to the next of its kind. .p NULL: it has no entry. */
static struct str entry_of(const char *name)
{
    struct str line, rest = buf_str(&manual);

    while (rest.n > 0) {
        str_cut(rest, '\n', &line, &rest);
        struct str word, arguments;
        if (!str_starts(line, STR(".It Ic ")))
            continue;
        str_cut(str_from(line, 7), ' ', &word, &arguments);
        if (!str_eq(word, str_of(name)))
            continue;
        const char *next = memmem(rest.p, rest.n, ".It Ic ", 7);
        return (struct str){ line.p, (next == NULL ? rest.p + rest.n : next) - line.p };
    }
    return (struct str){ NULL, 0 };
}

static bool is_known(struct str name)
{
    for (size_t i = 0; i < scan_block_count; i++)
        if (str_eq(name, str_of(scan_blocks[i].name)))
            return true;
    return option_find(name) != NULL;
}

static void every_option_is_documented(void **state)
{
    (void)state;
    for (size_t i = 0; i < option_count; i++)
        if (entry_of(options[i].name).p == NULL)
            fail_msg("%s has no entry in " MANUAL, options[i].name);
}

static void every_documented_option_is_there(void **state)
{
    struct str line, rest = buf_str(&manual);
    size_t found = 0;

    (void)state;
    while (rest.n > 0) {
        struct str word, arguments;
        str_cut(rest, '\n', &line, &rest);
        if (!str_starts(line, STR(".It Ic ")))
            continue;
        str_cut(str_from(line, 7), ' ', &word, &arguments);
        if (!is_known(word))
            fail_msg(MANUAL " documents \"%" STR_FMT "\", which is no option", STR_ARG(word));
        found++;
    }
    assert_int_equal(found, option_count + scan_block_count);
}

/* Each stands in its block's entry as "Ic name". */
static void every_option_of_a_block_is_documented(void **state)
{
    char text[128];

    (void)state;
    for (size_t i = 0; i < scan_block_count; i++) {
        struct str entry = entry_of(scan_blocks[i].name);
        if (entry.p == NULL)
            fail_msg("%s has no entry in " MANUAL, scan_blocks[i].name);
        for (size_t j = 0; scan_blocks[i].options[j] != NULL; j++) {
            int n = snprintf(text, sizeof text, "Ic %s No =", scan_blocks[i].options[j]);
            if (memmem(entry.p, entry.n, text, (size_t)n) == NULL)
                fail_msg("%s %s is not in " MANUAL, scan_blocks[i].name, scan_blocks[i].options[j]);
        }
    }
}

/* As the manual writes it: "Default: 5m.", "Default: no, because ...", "Default: {1m, 5m}.", "Default: none." of lists. */
static void put_default(struct buf *out, const struct option *o)
{
    struct str item, rest = str_of(o->fallback);
    bool list = option_is_list(o) && rest.n > 0;

    buf_put_z(out, "\nDefault: ");
    if (rest.n == 0)
        buf_put_z(out, option_is_list(o) ? "none" : "\\(dq\\(dq");
    buf_put_z(out, list ? "{" : "");
    for (const char *separator = ""; rest.n > 0; separator = ", ") {
        str_cut(rest, ' ', &item, &rest);
        const char *quote = list && item.p[0] == ':' ? "\\(dq" : "";      /* a word cannot begin with a colon */
        buf_printf(out, "%s%s%" STR_FMT "%s", separator, quote, STR_ARG(item), quote);
    }
    buf_put_z(out, list ? "}" : "");
}

static void every_default_is_as_documented(void **state)
{
    unsigned wrong = 0;

    (void)state;
    for (size_t i = 0; i < option_count; i++) {
        struct str entry = entry_of(options[i].name);
        if (options[i].fallback == NULL || entry.p == NULL)
            continue;
        CLEANUP_BUF struct buf text = { .p = NULL };
        buf_init(&text, 4096);
        put_default(&text, &options[i]);
        const char *found = memmem(entry.p, entry.n, text.p, text.n);
        if (found == NULL || strchr(".,; \n", found[text.n]) == NULL) {
            print_error("%s: \"%.*s\" is not in " MANUAL "\n", options[i].name, (int)text.n - 1, text.p + 1);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_option_is_documented),
        cmocka_unit_test(every_documented_option_is_there),
        cmocka_unit_test(every_option_of_a_block_is_documented),
        cmocka_unit_test(every_default_is_as_documented),
    };
    return cmocka_run_group_tests(tests, read_manual, free_manual);
}
