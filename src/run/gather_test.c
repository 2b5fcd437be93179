/*
 * Gathered work: every item once, at most so many turns, together what comes together, and a stuck turn that holds up nobody else.
 */
#include "run/gather.h"
#include "run/loop.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#define TASKS 300
#define TIMES 10

static struct offload *pool;
static struct gather  *gather;
static atomic_int      under_way, most_under_way, most_items, turns_made, wrong;
static _Atomic int64_t lasts_ns;

struct thing {
    int  times;
    bool stuck;
};

static int64_t count_them(void *const items[], size_t count)
{
    int now = atomic_fetch_add(&under_way, 1) + 1;
    if (now > atomic_load(&most_under_way))
        atomic_store(&most_under_way, now);
    if ((int)count > atomic_load(&most_items))
        atomic_store(&most_items, (int)count);
    atomic_fetch_add(&turns_made, 1);
    for (size_t i = 0; i < count; i++)
        ((struct thing *)items[i])->times++;
    atomic_fetch_sub(&under_way, 1);
    return atomic_load(&lasts_ns);
}

static void comes_often(void *arg)
{
    (void)arg;
    for (int i = 0; i < TIMES; i++) {
        struct thing t = { 0 };
        gather_run(gather, &t);
        if (t.times != 1)
            atomic_fetch_add(&wrong, 1);
    }
}

static void starts_many(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < TASKS; i++)
        if (loop_start_on(i % loop_count(), "comes", comes_often, NULL) < 0)
            atomic_fetch_add(&wrong, 1);
}

static void play(task_fn *fn, gather_fn *turn, unsigned threads)
{
    atomic_store(&most_under_way, 0);
    atomic_store(&most_items, 0);
    atomic_store(&turns_made, 0);
    atomic_store(&wrong, 0);
    pool = offload_new("test", threads, 100);
    assert_non_null(pool);
    gather = gather_new(pool, turn, threads, NS_PER_MS);
    assert_non_null(gather);
    assert_int_equal(loop_run(2, fn, NULL), 0);
    offload_free(pool);
    gather_free(gather);
    assert_int_equal(atomic_load(&wrong), 0);
}

static void each_item_goes_once(void **state)
{
    (void)state;
    atomic_store(&lasts_ns, 0);
    play(starts_many, count_them, 8);
    assert_true(atomic_load(&most_under_way) <= 2);
    assert_true(atomic_load(&most_items) > 1 && atomic_load(&most_items) <= (int)GATHER_MAX);
    assert_true(atomic_load(&turns_made) < TASKS * TIMES);
}

static void long_waits_get_more_turns(void **state)
{
    (void)state;
    atomic_store(&lasts_ns, 100 * NS_PER_MS);
    play(starts_many, count_them, 8);
    assert_true(atomic_load(&most_under_way) <= 8);
}

/* -- a stuck turn --------------------------------------------------------------------------------------------------------------- */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static atomic_int      at_gate, ended;

static int64_t may_be_stuck(void *const items[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (((struct thing *)items[i])->stuck) {
            atomic_fetch_add(&at_gate, 1);
            (void)pthread_mutex_lock(&gate);
            (void)pthread_mutex_unlock(&gate);
        }
    return 0;
}

static void one(bool stuck)
{
    struct thing t = { .stuck = stuck };
    gather_run(gather, &t);
    atomic_fetch_add(&ended, 1);
}

static void is_stuck(void *arg) { (void)arg, one(true); }
static void is_not(void *arg) { (void)arg, one(false); }

static void await(atomic_int *number, int value)
{
    while (atomic_load(number) < value)
        (void)task_sleep(NS_PER_MS);
}

static void two_stuck_and_others(void *arg)
{
    (void)arg;
    (void)pthread_mutex_lock(&gate);
    for (int i = 1; i <= 2; i++) {               /* each in a turn of its own, and so in all that may be under way in quick times */
        assert_int_equal(task_start("stuck", is_stuck, NULL), 0);
        await(&at_gate, i);
    }
    for (int i = 0; i < 5; i++)
        assert_int_equal(task_start("not stuck", is_not, NULL), 0);
    await(&ended, 5);
    (void)pthread_mutex_unlock(&gate);
    await(&ended, 7);
}

static void stuck_turns_hold_up_nobody_else(void **state)
{
    (void)state;
    atomic_store(&at_gate, 0);
    atomic_store(&ended, 0);
    (void)alarm(10);
    play(two_stuck_and_others, may_be_stuck, 4);
    (void)alarm(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_item_goes_once),
        cmocka_unit_test(long_waits_get_more_turns),
        cmocka_unit_test(stuck_turns_hold_up_nobody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
