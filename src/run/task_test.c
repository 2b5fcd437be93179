/*
 * Tasks on one loop: parking and waking, deadlines, cancellation, shields, groups. Each case is the first task of a loop of its own.
 */
#include "run/loop.h"
#include "run/loop_internal.h"
#include "run/task.h"
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

#ifdef TASKS_THREADS
#define MANY 500                     /* threads */
#elif defined SAN_THREAD
#define MANY 1000                    /* TSan knows at most 8,000 stacks */
#else
#define MANY 10000
#endif

/* What a task saw, for the first task to look at: cmocka's longjmp must not leave another stack than the test's, so nothing is asserted in tasks. */
static struct {
    int  results[8];
    int  turns;
    char order[64];
} seen;

static void see_order(char c)
{
    seen.order[strlen(seen.order)] = c;
}

static void run(task_fn *fn)
{
    memset(&seen, 0, sizeof seen);
    assert_int_equal(loop_run(1, fn, NULL), 0);
}

/* A wake before the park ends it at once, and several count as one. */

static void wakes_itself(void *arg)
{
    (void)arg;
    task_wake(task_self());
    task_wake(task_self());
    seen.results[0] = task_park(TASK_FOREVER);
    seen.results[1] = task_park(0);
}

static void a_wake_before_the_park_is_remembered_once(void **state)
{
    (void)state;
    run(wakes_itself);
    assert_int_equal(seen.results[0], 0);
    assert_int_equal(seen.results[1], -ETIMEDOUT);
}

static void sleeps_although_woken(void *arg)
{
    (void)arg;
    task_wake(task_self());
    int64_t before_ns = clock_mono_ns();
    seen.results[0] = task_sleep(20 * NS_PER_MS);
    seen.results[1] = clock_mono_ns() - before_ns >= 20 * NS_PER_MS;
    seen.results[2] = task_sleep_until(0);
    seen.results[3] = task_sleep(-1);
}

static void a_wake_does_not_shorten_a_sleep(void **state)
{
    (void)state;
    run(sleeps_although_woken);
    assert_int_equal(seen.results[0], 0);
    assert_true(seen.results[1]);
    assert_int_equal(seen.results[2], 0);
    assert_int_equal(seen.results[3], 0);
}

static void deadlines_saturate(void **state)
{
    (void)state;
    assert_true(task_deadline_in(TASK_FOREVER) == TASK_FOREVER);
    assert_true(task_deadline_in(INT64_MAX - 1) == TASK_FOREVER);
    assert_true(task_deadline_in(NS_PER_S) > clock_mono_ns());
    assert_null(task_self());
}

/* Parks of other deadlines than the order of starting; equal ones keep the order of parking. */

static const int64_t naps_ms[] = { 60, 20, 40, 20, 60, 20, 40, 40 };
static int64_t       naps_from_ns;

static void naps(void *arg)
{
    size_t i = (size_t)arg;
    if (task_park(naps_from_ns + naps_ms[i] * NS_PER_MS) == -ETIMEDOUT)
        see_order((char)('0' + i));
}

static void starts_nappers(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < sizeof naps_ms / sizeof naps_ms[0]; i++)
        seen.results[0] |= task_start("nap", naps, (void *)i);
    seen.results[1] = (int)loop_tasks();
    naps_from_ns = clock_mono_ns();                  /* none of them has run yet */
}

static void deadlines_pass_in_order(void **state)
{
    (void)state;
    run(starts_nappers);
    assert_int_equal(seen.results[0], 0);
    assert_int_equal(seen.results[1], 9);
    assert_string_equal(seen.order, "13526704");
}

/* Yielding lets the others run once. */

static void yields_thrice(void *arg)
{
    for (int i = 0; i < 3; i++) {
        see_order(*(const char *)arg);
        (void)task_yield();
    }
}

static void starts_yielders(void *arg)
{
    (void)arg;
    (void)task_start("a", yields_thrice, (void *)(uintptr_t)"a");
    (void)task_start("b", yields_thrice, (void *)(uintptr_t)"b");
    (void)task_start("c", yields_thrice, (void *)(uintptr_t)"c");
    see_order('0');                  /* a started task does not run at once */
}

static void yield_takes_turns(void **state)
{
    (void)state;
    run(starts_yielders);
    assert_string_equal(seen.order, "0abcabcabc");
}

/* Cancellation ends a park, and every later await says so again, but not in a shield. */

static void waits_until_canceled(void *arg)
{
    (void)arg;
    seen.results[0] = task_park(TASK_FOREVER);
    seen.results[1] = task_yield();
    seen.results[2] = task_sleep(NS_PER_S);
    task_wake(task_self());
    seen.results[3] = task_park(TASK_FOREVER);
    task_shield_begin();
    task_shield_begin();
    seen.results[4] = task_park(TASK_FOREVER);       /* the wake of before */
    task_shield_end();
    seen.results[5] = task_sleep(1);
    task_shield_end();
    seen.results[6] = task_park(TASK_FOREVER);
    seen.results[7] = task_canceled();
}

static void cancels_one(void *arg)
{
    struct task_group g;
    (void)arg;
    task_group_init(&g);
    (void)task_group_start(&g, "waits", waits_until_canceled, NULL);
    (void)task_yield();
    task_group_cancel(&g);
    if (task_group_start(&g, "late", waits_until_canceled, NULL) != -ECANCELED)
        seen.results[0] = 1;
    (void)task_group_wait(&g, TASK_FOREVER);
}

static void cancellation_is_said_again_and_again(void **state)
{
    static const int expected[] = { -ECANCELED, -ECANCELED, -ECANCELED, -ECANCELED, 0, 0, -ECANCELED, true };
    (void)state;
    run(cancels_one);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(seen.results[i], expected[i]);
}

/* One that never ran is cancelled too; it runs and its first await says so. */

static void cancels_one_before_it_ran(void *arg)
{
    struct task_group g;
    (void)arg;
    task_group_init(&g);
    (void)task_group_start(&g, "waits", waits_until_canceled, NULL);
    task_group_cancel(&g);
    (void)task_group_wait(&g, TASK_FOREVER);
}

static void a_task_canceled_before_it_ran_still_runs(void **state)
{
    (void)state;
    run(cancels_one_before_it_ran);
    assert_int_equal(seen.results[0], -ECANCELED);
    assert_int_equal(seen.results[7], true);
}

/* A cancellation in a shielded park leaves it parked. */

static void parks_shielded(void *arg)
{
    (void)arg;
    task_shield_begin();
    seen.results[0] = task_park(TASK_FOREVER);
    seen.turns++;
    task_shield_end();
    seen.results[1] = task_park(TASK_FOREVER);
}

static void cancels_shielded(void *arg)
{
    struct task_group g;
    (void)arg;
    task_group_init(&g);
    (void)task_group_start(&g, "shielded", parks_shielded, NULL);
    (void)task_yield();
    struct task *shielded = g.members;
    task_group_cancel(&g);
    seen.results[2] = task_group_wait(&g, task_deadline_in(10 * NS_PER_MS));
    seen.results[3] = seen.turns;
    task_wake(shielded);
    seen.results[4] = task_group_wait(&g, TASK_FOREVER);
}

static void a_shield_keeps_a_park_parked(void **state)
{
    (void)state;
    run(cancels_shielded);
    assert_int_equal(seen.results[0], 0);
    assert_int_equal(seen.results[1], -ECANCELED);
    assert_int_equal(seen.results[2], -ETIMEDOUT);
    assert_int_equal(seen.results[3], 0);
    assert_int_equal(seen.results[4], 0);
}

/* group_wait ignores the caller's own cancellation, and an empty group is waited for at once. */

static void waits_for_its_own(void *arg)
{
    struct task_group g;
    (void)arg;
    task_group_init(&g);
    seen.results[0] = task_group_wait(&g, 0);
    (void)task_group_start(&g, "nap", yields_thrice, (void *)(uintptr_t)"n");
    (void)task_park(TASK_FOREVER);
    seen.results[1] = task_group_wait(&g, TASK_FOREVER);
    seen.results[2] = (int)g.count;
    seen.results[3] = task_yield();
}

static void cancels_a_group_owner(void *arg)
{
    struct task_group g;
    (void)arg;
    task_group_init(&g);
    (void)task_group_start(&g, "owner", waits_for_its_own, NULL);
    (void)task_yield();
    task_group_cancel(&g);
    (void)task_group_wait(&g, TASK_FOREVER);
}

static void group_wait_ignores_cancellation(void **state)
{
    (void)state;
    run(cancels_a_group_owner);
    assert_int_equal(seen.results[0], 0);
    assert_int_equal(seen.results[1], 0);
    assert_int_equal(seen.results[2], 0);
    assert_int_equal(seen.results[3], -ECANCELED);
    assert_string_equal(seen.order, "nnn");
}

/* Many tasks, all parked, woken in order, twice, so that stacks are used again. */

static struct task *parked[MANY];

static void parks(void *arg)
{
    char deep[2048];
    memset(deep, 1, sizeof deep);
    __asm__ volatile("" : : "r"(deep) : "memory");
    parked[(size_t)arg] = task_self();
    task_trim_stack();
    if (task_park(TASK_FOREVER) == 0 && deep[1000] == 1)
        seen.turns++;
}

static void starts_many(void *arg)
{
    (void)arg;
    for (int round = 0; round < 2; round++) {
        struct task_group g;
        task_group_init(&g);
        for (size_t i = 0; i < MANY; i++)
            if (task_group_start(&g, "many", parks, (void *)i) < 0)
                seen.results[0]++;
        (void)task_yield();
        seen.results[1] = (int)loop_tasks();
        for (size_t i = 0; i < MANY; i++)
            task_wake(parked[i]);
        (void)task_group_wait(&g, TASK_FOREVER);
    }
}

static void ten_thousand_tasks(void **state)
{
    (void)state;
    run(starts_many);
    assert_int_equal(seen.results[0], 0);
    assert_int_equal(seen.results[1], MANY + 1);
    assert_int_equal(seen.turns, 2 * MANY);
}

/* The limit of tasks has a reply, and what ends makes room again. */

static void starts_too_many(void *arg)
{
    (void)arg;
    task_limit_set(3);
    seen.results[0] = task_start("a", yields_thrice, (void *)(uintptr_t)"a");
    seen.results[1] = task_start("b", yields_thrice, (void *)(uintptr_t)"b");
    seen.results[2] = task_start("c", yields_thrice, (void *)(uintptr_t)"c");
    (void)task_sleep(NS_PER_MS);
    seen.results[3] = task_start("c", yields_thrice, (void *)(uintptr_t)"c");
    task_limit_set(250000);
}

static void the_limit_of_tasks_is_an_error(void **state)
{
    (void)state;
    run(starts_too_many);
    assert_int_equal(seen.results[0], 0);
    assert_int_equal(seen.results[1], 0);
    assert_int_equal(seen.results[2], -EAGAIN);
    assert_int_equal(seen.results[3], 0);
}

/* Floating-point state is the task's own. */

static void rounds_upward(void *arg)
{
    volatile double one = 1.0, three = 3.0;
    double         *out = arg;
#if defined __x86_64__
    unsigned mxcsr = 0x5f80;         /* round towards plus infinity */
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
#elif defined __aarch64__
    uint64_t fpcr = UINT64_C(1) << 22;
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr));
#endif
    (void)task_yield();
    *out = one / three;
}

static double thirds[2];

static void rounds_to_nearest(void *arg)
{
    volatile double one = 1.0, three = 3.0;
    (void)arg;
    (void)task_start("upward", rounds_upward, &thirds[0]);
    (void)task_yield();
    thirds[1] = one / three;
}

static void rounding_belongs_to_the_task(void **state)
{
    (void)state;
    run(rounds_to_nearest);
    assert_true(thirds[0] > thirds[1]);
    assert_true(thirds[1] == 1.0 / 3.0);
}

/* In the driven loop: virtual time, order, and the end of a run in which all wait for ever. */

static int64_t virtual_ns;
static int     driver_calls;

static int64_t virtual_now(void *self)
{
    (void)self;
    return virtual_ns;
}

static int drive(void *self, int64_t next_deadline_ns)
{
    (void)self;
    driver_calls++;
    if (next_deadline_ns == TASK_FOREVER)
        return -EDEADLK;
    assert(next_deadline_ns > virtual_ns);
    virtual_ns = next_deadline_ns;
    return 0;
}

static const struct clock_source virtual_clock = { .mono_ns = virtual_now, .wall_ns = virtual_now };

static int run_driven(task_fn *fn)
{
    static const struct loop_driver driver = { .wait = drive };
    memset(&seen, 0, sizeof seen);
    virtual_ns = driver_calls = 0;
    clock_replace(&virtual_clock);
    int r = loop_run_driven(&driver, fn, NULL);
    clock_replace(NULL);
    return r;
}

static void sleeps_for_years(void *arg)
{
    (void)arg;
    seen.results[0] = (int)loop_count();
    seen.results[1] = loop_is_driven();
    for (size_t i = 0; i < 8; i++)
        (void)task_start("nap", naps, (void *)i);
    for (int i = 0; i < 1000; i++)
        (void)task_sleep(24 * 3600 * NS_PER_S);
    seen.results[2] = loop_signal_wait(0);
}

static void years_pass_in_a_driven_loop(void **state)
{
    (void)state;
    naps_from_ns = 0;
    assert_int_equal(run_driven(sleeps_for_years), 0);
    assert_int_equal(seen.results[0], 1);
    assert_true(seen.results[1]);
    assert_int_equal(seen.results[2], -ETIMEDOUT);
    assert_string_equal(seen.order, "13526704");
    assert_true(virtual_ns == 1000 * 24 * 3600 * NS_PER_S);
    assert_false(loop_is_driven());
}

static void waits_for_ever(void *arg)
{
    (void)arg;
    seen.results[0] = task_park(TASK_FOREVER);
}

static void a_deadlock_cancels_all(void **state)
{
    (void)state;
    assert_int_equal(run_driven(waits_for_ever), -EDEADLK);
    assert_int_equal(seen.results[0], -ECANCELED);
    assert_int_equal(driver_calls, 1);
}

#ifndef TASKS_THREADS                                /* there it would leave a thread behind */
static void waits_for_ever_shielded(void *arg)
{
    (void)arg;
    task_shield_begin();
    seen.results[0] = task_park(TASK_FOREVER);
}

static void a_deadlock_abandons_what_cannot_be_canceled(void **state)
{
    (void)state;
    seen.results[0] = 1;
    assert_int_equal(run_driven(waits_for_ever_shielded), -EDEADLK);
    assert_int_equal(seen.results[0], 0);            /* as run_driven left it: the park never returned */
    assert_int_equal(driver_calls, 2);
}
#endif

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wake_before_the_park_is_remembered_once),
        cmocka_unit_test(a_wake_does_not_shorten_a_sleep),
        cmocka_unit_test(deadlines_saturate),
        cmocka_unit_test(deadlines_pass_in_order),
        cmocka_unit_test(yield_takes_turns),
        cmocka_unit_test(cancellation_is_said_again_and_again),
        cmocka_unit_test(a_task_canceled_before_it_ran_still_runs),
        cmocka_unit_test(a_shield_keeps_a_park_parked),
        cmocka_unit_test(group_wait_ignores_cancellation),
        cmocka_unit_test(ten_thousand_tasks),
        cmocka_unit_test(the_limit_of_tasks_is_an_error),
        cmocka_unit_test(rounding_belongs_to_the_task),
        cmocka_unit_test(years_pass_in_a_driven_loop),
        cmocka_unit_test(a_deadlock_cancels_all),
#ifndef TASKS_THREADS
        cmocka_unit_test(a_deadlock_abandons_what_cannot_be_canceled),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
