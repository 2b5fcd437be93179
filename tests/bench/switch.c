/*
 * Prints what the primitives of run/ cost: a switch, a start, a wake across loops, a job on a helper.
 */
#include "run/loop.h"
#include "run/offload.h"
#include <stdio.h>

#define YIELDS 5000000
#define STARTS 200000
#define WAKES  100000

static int64_t since_ns;

static void report(const char *what, long count)
{
    printf("%-34s %8.1f ns\n", what, (double)(clock_mono_ns() - since_ns) / (double)count);
}

static void yields(void *arg)
{
    (void)arg;
    for (long i = 0; i < YIELDS / 2; i++)
        (void)task_yield();
}

static void nothing(void *arg)
{
    (void)arg;
}

static struct task *ends[2];
static int          turn;

static void plays(struct task *other, int me)
{
    for (long i = 0; i < WAKES; i++) {
        while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != me)
            (void)task_park(TASK_FOREVER);
        __atomic_store_n(&turn, 1 - me, __ATOMIC_RELEASE);
        if (me == 0 || i < WAKES - 1)
            task_wake(other);
    }
}

static void plays_second(void *arg)
{
    (void)arg;
    __atomic_store_n(&ends[1], task_self(), __ATOMIC_RELEASE);
    task_wake(ends[0]);
    plays(ends[0], 1);
}

static void all(void *arg)
{
    struct task_group g;
    (void)arg;
    task_group_init(&g);
    since_ns = clock_mono_ns();
    (void)task_group_start(&g, "a", yields, NULL);
    (void)task_group_start(&g, "b", yields, NULL);
    (void)task_group_wait(&g, TASK_FOREVER);
    report("yield (two switches of stack)", YIELDS);

    since_ns = clock_mono_ns();
    for (long i = 0; i < STARTS / 100; i++) {
        for (int j = 0; j < 100; j++)
            (void)task_group_start(&g, "nothing", nothing, NULL);
        (void)task_group_wait(&g, TASK_FOREVER);
    }
    report("start and end of a task", STARTS);

    ends[0] = task_self();
    (void)loop_start_on(1, "second", plays_second, NULL);
    while (__atomic_load_n(&ends[1], __ATOMIC_ACQUIRE) == NULL)
        (void)task_park(TASK_FOREVER);
    since_ns = clock_mono_ns();
    plays(ends[1], 0);
    report("wake across two sleeping loops", 2 * WAKES);

    struct offload *pool = offload_new("bench", 1, 16);
    since_ns = clock_mono_ns();
    for (long i = 0; i < WAKES; i++)
        (void)offload_run(pool, nothing, NULL);
    report("offload and back", WAKES);
    offload_free(pool);
}

int main(void)
{
    return loop_run(2, all, NULL) == 0 ? 0 : 1;
}
