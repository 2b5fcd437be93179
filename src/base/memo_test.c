/*
 * base/memo: what is forgotten, and when.
 */
#include "base/memo.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void sum_of(const char *text, uint8_t out[DIGEST_SHA256_LEN]) { digest_sha256(str_of(text), out); }

static bool known(struct memo *m, const char *what, int64_t now_ns, const char *value)
{
    uint8_t sum[DIGEST_SHA256_LEN];
    char bytes[32];
    struct buf b;

    sum_of(what, sum);
    buf_init_fixed(&b, bytes, sizeof bytes);
    bool found = memo_get(m, sum, now_ns, &b);
    assert_int_equal(found ? 0 : b.n, 0);
    return found && str_eq(buf_str(&b), str_of(value));
}

static void put(struct memo *m, const char *what, const char *value, int64_t until_ns)
{
    uint8_t sum[DIGEST_SHA256_LEN];

    sum_of(what, sum);
    memo_put(m, sum, str_of(value), until_ns);
}

static void remembers_for_a_while(void **state)
{
    struct memo *m = memo_new(8, 5);

    (void)state;
    assert_false(known(m, "a", 0, ""));
    put(m, "a", "alice", 10);
    assert_true(known(m, "a", 9, "alice"));
    assert_false(known(m, "a", 10, "alice"));
    put(m, "a", "too long", 20);                             /* what was known stays, and that has passed */
    assert_false(known(m, "a", 10, ""));
    put(m, "a", "", 20);
    assert_true(known(m, "a", 10, ""));
    memo_free(m);
    memo_free(NULL);
}

static void one_place_holds_one(void **state)
{
    struct memo *m = memo_new(1, 16);

    (void)state;
    put(m, "a", "alice", 10);
    put(m, "b", "bob", 10);
    assert_false(known(m, "a", 1, "alice"));
    assert_true(known(m, "b", 1, "bob"));
    memo_free(m);
}

static void room_of_the_caller(void **state)
{
    struct memo *m = memo_new(4, 16);
    uint8_t sum[DIGEST_SHA256_LEN];
    char bytes[3];
    struct buf b;

    (void)state;
    put(m, "a", "alice", 10);
    sum_of("a", sum);
    buf_init_fixed(&b, bytes, sizeof bytes);
    assert_false(memo_get(m, sum, 1, &b));
    memo_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(remembers_for_a_while), cmocka_unit_test(one_place_holds_one),
                                        cmocka_unit_test(room_of_the_caller) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
