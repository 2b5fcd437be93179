/*
 * Time and randomness: what stands in for them, ranges, and children that must not repeat their parent.
 */
#include "base/clock.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int64_t fixed_mono(void *self)
{
    return *(int64_t *)self;
}

static int64_t fixed_wall(void *self)
{
    return *(int64_t *)self + 1;
}

static void fixed_random(void *self, void *out, size_t n)
{
    (void)self;
    memset(out, 0xff, n);
}

static void another_source_takes_over(void **state)
{
    int64_t now = 42;
    const struct clock_source other = { fixed_mono, fixed_wall, fixed_random, &now };
    unsigned char bytes[300] = { 0 };

    (void)state;
    (void)clock_random_u64(); /* fills the buffer, which must not be used now */
    assert_false(clock_is_replaced());
    clock_replace(&other);
    assert_true(clock_is_replaced());
    assert_int_equal(clock_mono_ns(), 42);
    assert_int_equal(clock_wall_ns(), 43);
    assert_int_equal(clock_random_u64(), UINT64_MAX);
    assert_int_equal(clock_random_below(10), UINT64_MAX % 10);
    clock_random(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        assert_int_equal(bytes[i], 0xff);
    clock_replace(NULL);
    assert_int_not_equal(clock_random_u64(), UINT64_MAX);
}

static void time_goes_forward(void **state)
{
    (void)state;
    int64_t before = clock_mono_ns();
    assert_true(clock_mono_ns() >= before);
    assert_true(clock_wall_ns() > INT64_C(1577836800) * NS_PER_S); /* 2020 */
}

static void every_size_is_filled(void **state)
{
    static const size_t sizes[] = { 0, 1, 7, 8, 127, 128, 129, 255, 256, 257, 1000 };

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char seen[1000] = { 0 }, bytes[1001];
        memset(bytes, 0x5a, sizeof bytes);
        for (int round = 0; round < 40; round++) {
            clock_random(bytes, sizes[i]);
            for (size_t k = 0; k < sizes[i]; k++)
                seen[k] |= bytes[k];
        }
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_not_equal(seen[k], 0); /* forty zeroes in a row do not happen */
        assert_int_equal(bytes[sizes[i]], 0x5a);
    }
}

static void stays_below(void **state)
{
    unsigned counts[3] = { 0 };

    (void)state;
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(clock_random_below(1), 0);
        counts[clock_random_below(3)]++;
        assert_true(clock_random_below((UINT64_C(1) << 63) + 1) <= UINT64_C(1) << 63);
    }
    for (int i = 0; i < 3; i++)
        assert_in_range(counts[i], 800, 1200);
}

static void a_child_does_not_repeat_its_parent(void **state)
{
    int ends[2], status;
    uint64_t mine, theirs;

    (void)state;
    (void)clock_random_u64(); /* so that the buffer holds something to share */
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        theirs = clock_random_u64();
        _exit(write(ends[1], &theirs, sizeof theirs) == sizeof theirs ? 0 : 1);
    }
    mine = clock_random_u64();
    assert_int_equal(read(ends[0], &theirs, sizeof theirs), sizeof theirs);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_not_equal(mine, theirs);
    close(ends[0]);
    close(ends[1]);
}

static void *draw(void *out)
{
    *(uint64_t *)out = clock_random_u64();
    return NULL;
}

static void threads_do_not_repeat_each_other(void **state)
{
    uint64_t drawn[2];
    pthread_t threads[2];

    (void)state;
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, draw, &drawn[i]), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_not_equal(drawn[0], drawn[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_source_takes_over),
        cmocka_unit_test(time_goes_forward),
        cmocka_unit_test(every_size_is_filled),
        cmocka_unit_test(stays_below),
        cmocka_unit_test(a_child_does_not_repeat_its_parent),
        cmocka_unit_test(threads_do_not_repeat_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
