/*
 * Messages between processes: what is put is what is taken, whole or not at all, and nothing else is a message.
 */
#include "run/wire.h"
#include "base/codec.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_there_and_back(void **state)
{
    const struct wire_message m = { .id = 7, .op = 3, .result = -11, .number = UINT64_MAX - 1, .parts = { STR("one"), STR(""), STR("a\0b") } };
    struct wire_message back;
    char bytes[256];
    struct buf b;

    (void)state;
    buf_init_fixed(&b, bytes, sizeof bytes);
    assert_true(wire_put(&b, &m));
    assert_int_equal(b.n, WIRE_HEAD + 6 + 3 + 3);
    for (size_t n = 0; n < b.n; n++)                 /* in pieces */
        assert_int_equal(wire_take((struct str){ bytes, n }, &back), 0);
    size_t one = b.n;
    assert_true(wire_put(&b, &m));                   /* one behind the other */
    assert_int_equal(wire_take(buf_str(&b), &back), one);
    assert_true(back.id == 7 && back.op == 3 && back.result == -11 && back.number == UINT64_MAX - 1);
    for (size_t i = 0; i < WIRE_PARTS; i++)
        assert_true(str_eq(back.parts[i], m.parts[i]));
}

static const struct { const char *what; uint32_t length; uint16_t parts[3]; ssize_t result; } cases[] = {
    { "nothing in it",                      23, { 0, 0, 0 },     27        },
    { "a length of nothing",                0,  { 0, 0, 0 },     -EBADMSG  },
    { "a length of less than a head",       22, { 0, 0, 0 },     -EBADMSG  },
    { "a length without an end",            UINT32_MAX, { 0, 0, 0 }, -EBADMSG },
    { "one more than a message may have",   WIRE_MESSAGE_MAX - 3, { 0, 0, 0 }, -EBADMSG },
    { "not here yet",                       WIRE_MESSAGE_MAX - 4, { 0, 0, 0 }, 0 },
    { "a byte left over",                   24, { 0, 0, 0 },     -EBADMSG  },
    { "a part that is longer than the rest", 23, { 1, 0, 0 },    -EBADMSG  },
    { "a last part that is longer",         24, { 0, 0, 2 },     -EBADMSG  },
    { "a part that leaves no room for the next length", 24, { 2, 0, 0 }, -EBADMSG },
};

static void test_what_is_none(void **state)
{
    struct wire_message untouched = { .id = 77 };
    char bytes[64];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memset(bytes, 0, sizeof bytes);
        codec_set_u32(bytes, cases[i].length);
        for (size_t p = 0; p < 3; p++)
            codec_set_u16(bytes + WIRE_HEAD + 2 * p, cases[i].parts[p]);
        ssize_t n = wire_take((struct str){ bytes, sizeof bytes }, &untouched);
        if (n != cases[i].result || (n <= 0 && untouched.id != 77))
            fail_msg("%s: %zd", cases[i].what, n);
        untouched.id = 77;
    }
}

static void test_limits(void **state)
{
    static char part[WIRE_PART_MAX + 1], bytes[WIRE_MESSAGE_MAX];
    struct wire_message m = { .parts = { { part, WIRE_PART_MAX }, { part, WIRE_PART_MAX }, { part, WIRE_PART_MAX } } }, back;
    struct buf b;

    (void)state;
    buf_init_fixed(&b, bytes, sizeof bytes);
    assert_true(wire_put(&b, &m));
    assert_int_equal(b.n, WIRE_MESSAGE_MAX);
    assert_int_equal(wire_take(buf_str(&b), &back), WIRE_MESSAGE_MAX);
    assert_false(wire_put(&b, &m));                  /* full: nothing of it is appended */
    assert_int_equal(b.n, WIRE_MESSAGE_MAX);
    m.parts[1].n++;
    buf_clear(&b);
    assert_false(wire_put(&b, &m));
    assert_int_equal(b.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_what_is_none),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
