/*
 * Hash maps: SipHash's vectors, removal that closes gaps, and passes during which entries go.
 */
#include "base/clock.h"
#include "base/map.h"
#include "base/map_internal.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 1000 };

static char values[KEYS];

static uint32_t next_number(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* From the reference implementation: the key is 00 01 .. 0f, the input 00 01 .. of each length. */
static void siphash_is_siphash(void **state)
{
    static const struct {
        size_t n;
        uint64_t hash;
    } cases[] = {
        {0,   0x726fdb47dd0e0e31},
        { 1,  0x74f839c593dc67fd},
        { 7,  0xab0200f58b01d137},
        { 8,  0x93f5f5799a932462},
        { 15, 0xa129ca6149be45e5}, /* the paper's own example, Appendix A */
        { 63, 0x958a324ceb064572},
    };
    uint8_t key[16];
    char input[64];

    (void)state;
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof input; i++)
        input[i] = (char)i;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(map_siphash(key, (struct str){ input, cases[i].n }), cases[i].hash);
}

static void an_empty_one_gives_nothing(void **state)
{
    struct map_u64 m;
    struct map_str s;
    size_t cursor = 0;
    uint64_t number;
    struct str string;
    void *value;

    (void)state;
    map_u64_init(&m);
    assert_null(map_u64_get(&m, 0));
    assert_null(map_u64_remove(&m, 0));
    assert_false(map_u64_next(&m, &cursor, &number, &value));
    map_u64_free(&m);
    map_str_init(&s);
    assert_null(map_str_get(&s, STR("")));
    assert_null(map_str_remove(&s, STR("")));
    assert_false(map_str_next(&s, &cursor, &string, &value));
    map_str_free(&s);
}

static void odd_keys_are_keys(void **state)
{
    struct map_u64 m;
    struct map_str s;

    (void)state;
    map_u64_init(&m);
    assert_int_equal(map_u64_put(&m, 0, &values[0]), 0);
    assert_int_equal(map_u64_put(&m, UINT64_MAX, &values[1]), 0);
    assert_int_equal(map_u64_put(&m, 0, &values[2]), 0);
    assert_int_equal(m.used, 2);
    assert_ptr_equal(map_u64_get(&m, 0), &values[2]);
    assert_ptr_equal(map_u64_get(&m, UINT64_MAX), &values[1]);
    map_u64_free(&m);

    map_str_init(&s);
    assert_int_equal(map_str_put(&s, (struct str){ NULL, 0 }, &values[0]), 0);
    assert_ptr_equal(map_str_get(&s, STR("")), &values[0]);
    assert_int_equal(map_str_put(&s, STR("a\0b"), &values[1]), 0);
    assert_null(map_str_get(&s, STR("a")));
    assert_null(map_str_get(&s, STR("A\0B")));
    assert_ptr_equal(map_str_remove(&s, STR("a\0b")), &values[1]);
    map_str_free(&s);
}

static void replacing_takes_the_new_key(void **state)
{
    char first[] = "name", second[] = "name";
    struct map_str s;

    (void)state;
    map_str_init(&s);
    assert_int_equal(map_str_put(&s, str_of(first), &values[0]), 0);
    assert_int_equal(map_str_put(&s, str_of(second), &values[1]), 0);
    first[0] = 'x'; /* its owner may have freed it by now */
    assert_ptr_equal(map_str_get(&s, STR("name")), &values[1]);
    assert_int_equal(s.used, 1);
    map_str_free(&s);
}

/* Against an array that cannot be wrong. */
static void survives_any_order(void **state)
{
    static void *model[KEYS];
    struct map_u64 m;
    uint32_t seed = 7;

    (void)state;
    memset(model, 0, sizeof model);
    map_u64_init(&m);
    for (int step = 0; step < 60000; step++) {
        uint64_t key = next_number(&seed) % (step % 20000 < 10000 ? 20 : KEYS);
        void *value = &values[next_number(&seed) % KEYS];
        if (next_number(&seed) % 2 == 0) {
            assert_int_equal(map_u64_put(&m, key << 40, value), 0);
            model[key] = value;
        } else {
            assert_ptr_equal(map_u64_remove(&m, key << 40), model[key]);
            model[key] = NULL;
        }
        key = next_number(&seed) % KEYS;
        assert_ptr_equal(map_u64_get(&m, key << 40), model[key]);
    }
    size_t live = 0;
    for (size_t i = 0; i < KEYS; i++)
        live += model[i] != NULL;
    assert_int_equal(m.used, live);
    map_u64_free(&m);
}

static void strings_survive_too(void **state)
{
    static char names[KEYS][16];
    struct map_str s;

    (void)state;
    map_str_init(&s);
    for (size_t i = 0; i < KEYS; i++) {
        snprintf(names[i], sizeof names[i], "host-%zu", i);
        assert_int_equal(map_str_put(&s, str_of(names[i]), &values[i]), 0);
    }
    for (size_t i = 0; i < KEYS; i += 2)
        assert_ptr_equal(map_str_remove(&s, str_of(names[i])), &values[i]);
    for (size_t i = 0; i < KEYS; i++)
        assert_ptr_equal(map_str_get(&s, str_of(names[i])), i % 2 == 0 ? NULL : &values[i]);
    size_t cursor = 0, seen = 0;
    struct str key;
    void *value;
    for (; map_str_next(&s, &cursor, &key, &value); seen++)
        assert_ptr_equal(map_str_remove(&s, key), value);
    assert_int_equal(seen, KEYS / 2);
    assert_int_equal(s.used, 0);
    map_str_free(&s);
}

/* Every entry once, whatever is removed behind the pass: nothing, the one just given, or any one that was. */
static void a_pass_skips_nothing(void **state)
{
    enum { REMOVE_NONE, REMOVE_GIVEN, REMOVE_EARLIER, WAYS };
    uint32_t seed = 3;

    (void)state;
    for (int round = 0; round < 600; round++) {
        struct map_u64 m;
        uint64_t given[64], key;
        unsigned times[64] = { 0 };
        size_t n = next_number(&seed) % 64, cursor = 0, seen = 0;
        void *value;

        map_u64_init(&m);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(map_u64_put(&m, i + (uint64_t)round * 64, &values[i]), 0);
        while (map_u64_next(&m, &cursor, &key, &value)) {
            size_t i = (size_t)(key - (uint64_t)round * 64);
            assert_ptr_equal(value, &values[i]);
            times[i]++;
            given[seen++] = key;
            if (round % WAYS == REMOVE_GIVEN && next_number(&seed) % 4 != 0)
                assert_ptr_equal(map_u64_remove(&m, key), value);
            if (round % WAYS == REMOVE_EARLIER)
                (void)map_u64_remove(&m, given[next_number(&seed) % seen]);
        }
        assert_int_equal(seen, n);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(times[i], 1);
        assert_false(map_u64_next(&m, &cursor, &key, &value)); /* the end stays the end */
        map_u64_free(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(siphash_is_siphash),          cmocka_unit_test(an_empty_one_gives_nothing), cmocka_unit_test(odd_keys_are_keys),
        cmocka_unit_test(replacing_takes_the_new_key), cmocka_unit_test(survives_any_order),         cmocka_unit_test(strings_survive_too),
        cmocka_unit_test(a_pass_skips_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
