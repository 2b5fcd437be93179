/*
 * Buffers: limits, the failure that sticks, and both kinds of memory.
 */
#include "base/buf.h"
#include "base/cleanup.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#if defined(SAN_ADDRESS) || defined(SAN_THREAD)
#define SANITIZED
#endif

#define assert_holds(b, literal) assert_true(str_eq(buf_str(b), STR(literal)))

static void an_empty_one_is_fine(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    buf_put(&b, NULL, 0);
    buf_printf(&b, "%s", "");
    buf_drop_front(&b, 0);
    assert_true(buf_ok(&b));
    assert_non_null(buf_str(&b).p);
    assert_int_equal(buf_str(&b).n, 0);
    buf_put_char(&b, 'x');
    assert_false(buf_ok(&b));
    buf_free(&b);
    buf_free(&b);
}

static void keeps_what_it_had_when_full(void **state)
{
    CLEANUP_BUF struct buf b;

    (void)state;
    buf_init(&b, 5);
    buf_put_z(&b, "abc");
    buf_put_z(&b, "def"); /* does not fit: not even in part */
    assert_false(buf_ok(&b));
    buf_put_z(&b, "g"); /* would fit, but the record is broken already */
    buf_printf(&b, "%d", 1);
    assert_null(buf_room(&b, 1));
    assert_holds(&b, "abc");
    buf_clear(&b);
    assert_true(buf_ok(&b));
    buf_put_z(&b, "abcde");
    assert_true(buf_ok(&b));
    assert_holds(&b, "abcde");
}

static void checks_the_sum(void **state)
{
    CLEANUP_BUF struct buf b;

    (void)state;
    buf_init(&b, SIZE_MAX);
    buf_put_char(&b, 'x');
    assert_null(buf_room(&b, SIZE_MAX));
    assert_false(buf_ok(&b));
    buf_clear(&b);
    buf_put_char(&b, 'x');
#ifndef SANITIZED /* which takes asking for so much as a fault */
    assert_null(buf_room(&b, SIZE_MAX / 2));
    assert_false(buf_ok(&b));
#endif
    assert_holds(&b, "x");
}

static void never_allocates_when_fixed(void **state)
{
    char memory[4] = "....";
    struct buf b;

    (void)state;
    buf_init_fixed(&b, memory, sizeof memory);
    buf_printf(&b, "%s", "abcd"); /* exactly full: no room for printf's NUL */
    assert_true(buf_ok(&b));
    assert_memory_equal(memory, "abcd", 4);
    buf_put_char(&b, 'e');
    assert_false(buf_ok(&b));
    buf_free(&b);
    assert_true(buf_ok(&b));
    buf_printf(&b, "%s", "ab");
    assert_ptr_equal(buf_str(&b).p, memory);
    assert_holds(&b, "ab");
}

static void formats_at_every_fill(void **state)
{
    (void)state;
    for (size_t fill = 0; fill < 130; fill++) {
        CLEANUP_BUF struct buf b;
        buf_init(&b, 1000);
        for (size_t i = 0; i < fill; i++)
            buf_put_char(&b, 'x');
        buf_printf(&b, "%s-%d", "tail", 7);
        assert_true(buf_ok(&b));
        assert_int_equal(b.n, fill + 6);
        assert_true(str_eq(str_from(buf_str(&b), fill), STR("tail-7")));
    }
}

static void writes_little_endian(void **state)
{
    CLEANUP_BUF struct buf b;

    (void)state;
    buf_init(&b, 100);
    buf_put_u8(&b, 0xfe);
    buf_put_u16(&b, 0x0102);
    buf_put_u32(&b, 0x03040506);
    buf_put_u64(&b, 0x0708090a0b0c0d0e);
    assert_holds(&b, "\xfe\x02\x01\x06\x05\x04\x03\x0e\x0d\x0c\x0b\x0a\x09\x08\x07");
}

static void gives_room_and_takes_back(void **state)
{
    CLEANUP_BUF struct buf b;

    (void)state;
    buf_init(&b, 1000);
    char *room = buf_room(&b, 100);
    assert_non_null(room);
    memcpy(room, "hello", 5);
    buf_added(&b, 5); /* less than was asked for */
    buf_put_str(&b, STR(" world"));
    buf_drop_front(&b, 6);
    assert_holds(&b, "world");
    buf_truncate(&b, 3);
    assert_holds(&b, "wor");
    buf_drop_front(&b, 3);
    assert_holds(&b, "");
}

static void grows_to_its_limit(void **state)
{
    CLEANUP_BUF struct buf b;

    (void)state;
    buf_init(&b, 100000);
    for (size_t i = 0; i < 100000; i++)
        buf_put_char(&b, (char)i);
    assert_true(buf_ok(&b));
    assert_int_equal(b.cap, 100000); /* not the next power of two */
    for (size_t i = 0; i < 100000; i++)
        assert_int_equal(b.p[i], (char)i);
    buf_put_char(&b, 0);
    assert_false(buf_ok(&b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_is_fine),       cmocka_unit_test(keeps_what_it_had_when_full), cmocka_unit_test(checks_the_sum),
        cmocka_unit_test(never_allocates_when_fixed), cmocka_unit_test(formats_at_every_fill),       cmocka_unit_test(writes_little_endian),
        cmocka_unit_test(gives_room_and_takes_back),  cmocka_unit_test(grows_to_its_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
