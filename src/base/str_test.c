/*
 * Byte strings: comparisons, cuts and copies, the empty string in both its shapes first.
 */
#include "base/arena.h"
#include "base/str.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define NOTHING      ((struct str){ NULL, 0 })

#define assert_str(s, literal) assert_true(str_eq((s), STR(literal)))

static int sign(int n)
{
    return (n > 0) - (n < 0);
}

static void compares_bytes(void **state)
{
    static const struct {
        struct str a, b;
        int order;
        bool same_nocase;
    } cases[] = {
        {{ NULL, 0 },           { "", 0 },            0,  true },
        { { "", 0 },            { "a", 1 },           -1, false},
        { { "ab", 2 },          { "abc", 3 },         -1, false},
        { { "b", 1 },           { "abc", 3 },         1,  false},
        { { "\x80", 1 },        { "a", 1 },           1,  false}, /* bytes are not signed */
        { { "a\0b", 3 },        { "a\0c", 3 },        -1, false}, /* a NUL ends nothing */
        { { "POSTmaster", 10 }, { "postMASTER", 10 }, -1, true },
        { { "@", 1 },           { "`", 1 },           -1, false}, /* differ by 32, and are no letters */
        { { "\xc4", 1 },        { "\xe4", 1 },        -1, false}, /* Latin-1's A with dots: not ASCII, not ours to fold */
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(sign(str_cmp(cases[i].a, cases[i].b)), cases[i].order);
        assert_int_equal(sign(str_cmp(cases[i].b, cases[i].a)), -cases[i].order);
        assert_int_equal(str_eq(cases[i].a, cases[i].b), cases[i].order == 0);
        assert_int_equal(str_eq_nocase(cases[i].a, cases[i].b), cases[i].same_nocase);
    }
}

static void finds_ends(void **state)
{
    (void)state;
    assert_true(str_starts(NOTHING, NOTHING));
    assert_true(str_starts(STR("abc"), NOTHING));
    assert_false(str_starts(NOTHING, STR("a")));
    assert_true(str_starts(STR("abc"), STR("ab")));
    assert_false(str_starts(STR("ABC"), STR("ab")));
    assert_true(str_starts_nocase(STR("ABC"), STR("ab")));
    assert_true(str_ends_nocase(STR("mail.EXAMPLE"), STR(".example")));
    assert_false(str_ends_nocase(STR("example"), STR(".example")));
    assert_true(str_ends_nocase(STR("x"), NOTHING));
}

static void trims_blanks_only(void **state)
{
    (void)state;
    assert_str(str_trim(NOTHING), "");
    assert_str(str_trim(STR(" \t ")), "");
    assert_str(str_trim(STR("\t a b \t")), "a b");
    assert_str(str_trim(STR(" a\r\n")), "a\r\n");
}

static void takes_parts(void **state)
{
    (void)state;
    assert_str(str_from(NOTHING, 5), "");
    assert_str(str_from(STR("abc"), SIZE_MAX), "");
    assert_str(str_from(STR("abc"), 1), "bc");
    assert_str(str_head(STR("abc"), 2), "ab");
    assert_str(str_head(STR("abc"), 9), "abc");
    assert_str(str_of(NULL), "");
    assert_non_null(str_of(NULL).p);
}

static void finds_characters(void **state)
{
    (void)state;
    assert_int_equal(str_find(NOTHING, 'a'), -1);
    assert_int_equal(str_find_last(NOTHING, 'a'), -1);
    assert_int_equal(str_find(STR("a@b@c"), '@'), 1);
    assert_int_equal(str_find_last(STR("a@b@c"), '@'), 3);
    assert_int_equal(str_find(STR("ab"), '\0'), -1);
    assert_int_equal(str_find_str(NOTHING, NOTHING), 0);
    assert_int_equal(str_find_str(NOTHING, STR("x")), -1);
    assert_int_equal(str_find_str(STR("aab"), STR("ab")), 1);
    assert_int_equal(str_find_str(STR("a"), STR("ab")), -1);
}

static void cuts_at_the_first(void **state)
{
    static const struct {
        struct str s;
        bool found;
        const char *head, *rest;
    } cases[] = {
        {{ NULL, 0 },     false, "",   ""   },
        { { "=", 1 },     true,  "",   ""   },
        { { "ab", 2 },    false, "ab", ""   },
        { { "a=b=c", 5 }, true,  "a",  "b=c"},
        { { "a=", 2 },    true,  "a",  ""   },
    };
    struct str head, rest;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(str_cut(cases[i].s, '=', &head, &rest), cases[i].found);
        assert_true(str_eq(head, str_of(cases[i].head)));
        assert_true(str_eq(rest, str_of(cases[i].rest)));
    }
    rest = STR("a=b"); /* the way it is used in loops: rest and s are one */
    assert_true(str_cut(rest, '=', &head, &rest));
    assert_str(rest, "b");
}

static void reads_numbers(void **state)
{
    static const struct {
        const char *s;
        uint64_t max;
        bool ok;
        uint64_t v;
    } cases[] = {
        {"",                         UINT64_MAX, false, 0         },
        { "+1",                      UINT64_MAX, false, 0         },
        { "-1",                      UINT64_MAX, false, 0         },
        { " 1",                      UINT64_MAX, false, 0         },
        { "1 ",                      UINT64_MAX, false, 0         },
        { "0x10",                    UINT64_MAX, false, 0         },
        { "18446744073709551616",    UINT64_MAX, false, 0         },
        { "18446744073709551620",    UINT64_MAX, false, 0         },
        { "99999999999999999999",    UINT64_MAX, false, 0         },
        { "18446744073709551615",    UINT64_MAX, true,  UINT64_MAX},
        { "00000000000000000000007", 7,          true,  7         },
        { "8",                       7,          false, 0         },
        { "0",                       0,          true,  0         },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t v = 4711;
        assert_int_equal(str_to_u64(str_of(cases[i].s), cases[i].max, &v), cases[i].ok);
        assert_int_equal(v, cases[i].ok ? cases[i].v : 4711);
    }
}

static void copies_into_an_arena(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 4096);
    struct str empty = str_copy(&a, NOTHING);
    assert_non_null(empty.p); /* NULL is kept for a full arena */
    assert_int_equal(empty.n, 0);
    assert_str(str_copy(&a, STR("a\0b")), "a\0b");
    assert_str(str_lower(&a, STR("MiXed \xc4[@")), "mixed \xc4[@");
    assert_string_equal(str_z(&a, (struct str){ "abcdef", 3 }), "abc");
    assert_string_equal(str_z(&a, NOTHING), "");
    assert_str(str_printf(&a, "%d-%s", 42, "x"), "42-x");
    assert_str(str_printf(&a, "%s", ""), "");
    assert_false(arena_failed(&a));
    arena_reset(&a);

    arena_init(&a, 16);
    assert_null(str_copy(&a, STR("0123456789abcdef")).p);
    assert_null(str_lower(&a, STR("0123456789abcdef")).p);
    assert_null(str_printf(&a, "%040d", 1).p);
    assert_null(str_z(&a, (struct str){ "x", SIZE_MAX }));
    assert_true(arena_failed(&a));
    arena_reset(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares_bytes), cmocka_unit_test(finds_ends),           cmocka_unit_test(trims_blanks_only),
        cmocka_unit_test(takes_parts),    cmocka_unit_test(finds_characters),     cmocka_unit_test(cuts_at_the_first),
        cmocka_unit_test(reads_numbers),  cmocka_unit_test(copies_into_an_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
