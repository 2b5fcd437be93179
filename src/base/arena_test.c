/*
 * Arenas: the limit, alignment, zeroes, and use after a reset.
 */
#include "base/arena.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#if defined(SAN_ADDRESS) || defined(SAN_THREAD)
#define SANITIZED
#endif

static bool all_zero(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return false;
    return true;
}

static void nothing_is_something(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 64);
    void *p = arena_alloc(&a, 0), *q = arena_array(&a, 0, 8);
    assert_non_null(p);
    assert_non_null(q);
    assert_ptr_not_equal(p, q);
    arena_reset(&a);
    arena_reset(&a); /* twice is once */
}

static void refuses_what_cannot_be(void **state)
{
    static const size_t sizes[] = {
#ifndef SANITIZED
        SIZE_MAX / 2, /* the sanitizer takes asking for so much as a fault */
#endif
        SIZE_MAX,
        SIZE_MAX - 15,
    };
    struct arena a;

    (void)state;
    arena_init(&a, SIZE_MAX);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_non_null(arena_alloc(&a, 24)); /* so that used + n can overflow too */
        assert_null(arena_alloc(&a, sizes[i]));
        assert_true(arena_failed(&a));
        arena_reset(&a);
        assert_false(arena_failed(&a));
    }
    assert_null(arena_array(&a, SIZE_MAX / 8 + 2, 8)); /* the product would be 8 */
    assert_true(arena_failed(&a));
    arena_reset(&a);
}

static void holds_the_limit(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 100);
    assert_non_null(arena_alloc(&a, 50)); /* 64 */
    assert_null(arena_alloc(&a, 50));
    assert_true(arena_failed(&a));
    assert_non_null(arena_alloc(&a, 30)); /* what fits is still given, and the failure is still known */
    assert_true(arena_failed(&a));
    assert_true(a.used <= a.limit);
    arena_reset(&a);
    assert_int_equal(a.used, 0);
    assert_non_null(arena_alloc(&a, 96));
    arena_reset(&a);

    arena_init(&a, 0);
    assert_null(arena_alloc(&a, 0));
    arena_reset(&a);
}

static void gives_zeroed_aligned_memory(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 1 << 22);
    for (int round = 0; round < 2; round++) {
        /* Odd sizes across block ends, with a large one now and then, all written to the last byte. */
        for (size_t i = 0; i < 700; i++) {
            size_t n = i % 97 == 96 ? 100000 : i * 7 % 1500 + 1;
            unsigned char *p = arena_alloc(&a, n);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
            assert_true(all_zero(p, n));
            memset(p, 0xa5, n);
        }
        arena_reset(&a);
    }
}

static void keeps_small_arenas_small(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 1 << 20);
    char *first = arena_alloc(&a, 16);
    assert_non_null(arena_alloc(&a, 500000)); /* its own block, behind the one that has room left */
    char *second = arena_alloc(&a, 16);
#ifndef SAN_ADDRESS
    assert_ptr_equal(second, first + 16);
#else
    assert_ptr_not_equal(second, first);
#endif
    arena_reset(&a);
}

/* To every mark of a random past; what was there before it stays, and what comes after it is zeroed again. */
static void goes_back_to_a_mark(void **state)
{
    static const size_t sizes[] = { 1, 16, 700, 3000, 100000, 40 };
    struct arena a;

    (void)state;
    arena_init(&a, 1 << 20);
    for (size_t before = 0; before < 12; before++) {
        unsigned char *kept[12];
        for (size_t i = 0; i < before; i++)
            memset(kept[i] = arena_alloc(&a, 900), (int)i + 1, 900);
        struct arena_mark mark = arena_mark(&a);
        size_t used = a.used;
        for (size_t after = 0; after < 12; after++) {
            for (size_t i = 0; i < after; i++) {
                size_t n = sizes[(after + i) % 6];
                unsigned char *p = arena_alloc(&a, n);
                assert_true(all_zero(p, n));
                memset(p, 0xa5, n);
            }
            assert_null(arena_alloc(&a, 2 << 20));
            arena_rewind(&a, mark);
            assert_int_equal(a.used, used);
            assert_false(arena_failed(&a));
        }
        for (size_t i = 0; i < before; i++)
            assert_true(kept[i][0] == i + 1 && memcmp(kept[i], kept[i] + 1, 899) == 0);
        arena_reset(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_something),        cmocka_unit_test(refuses_what_cannot_be),   cmocka_unit_test(holds_the_limit),
        cmocka_unit_test(gives_zeroed_aligned_memory), cmocka_unit_test(keeps_small_arenas_small),
        cmocka_unit_test(goes_back_to_a_mark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
