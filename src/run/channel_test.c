/*
 * Channels: order, room, closing, giving up, over loops and from other threads.
 */
#include "run/channel.h"
#include "run/loop.h"
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

#define ITEMS 20000

static struct {
    int results[10];
} seen;

static struct channel *channel;

static void run(unsigned loops, size_t capacity, task_fn *fn)
{
    memset(&seen, 0, sizeof seen);
    channel = channel_new(capacity);
    assert_non_null(channel);
    assert_int_equal(loop_run(loops, fn, NULL), 0);
    channel_free(channel);
}

static void *item(size_t i)
{
    return (void *)i;
}

static void tries_all(void *arg)
{
    void *got = item(9);
    (void)arg;
    seen.results[0] = channel_recv(channel, &got, task_deadline_in(1));
    seen.results[1] = got == item(9);            /* untouched on failure */
    seen.results[2] = channel_try_send(channel, item(1));
    seen.results[3] = channel_send(channel, item(2), 0);
    seen.results[4] = channel_try_send(channel, item(3));
    seen.results[5] = channel_send(channel, item(3), task_deadline_in(1));
    channel_close(channel);
    seen.results[6] = channel_send(channel, item(3), TASK_FOREVER);
    for (size_t i = 1; i <= 2; i++)
        seen.results[7] += channel_recv(channel, &got, TASK_FOREVER) == 0 && got == item(i);
    seen.results[8] = channel_recv(channel, &got, TASK_FOREVER);
}

static void full_empty_and_closed_have_answers(void **state)
{
    static const int expected[] = { -ETIMEDOUT, true, 0, 0, -EAGAIN, -ETIMEDOUT, -EPIPE, 2, -EPIPE };
    (void)state;
    run(1, 2, tries_all);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_int_equal(seen.results[i], expected[i]);
    channel_free(NULL);
    assert_null(channel_new(SIZE_MAX));
}

/* Several senders on both loops, several receivers on both loops: each item comes once, and those of one sender in their order. */

#define ENDS 4

static atomic_int  senders_left, disorders;
static atomic_long sum, received;

static void sends(void *arg)
{
    size_t who = (size_t)arg;
    for (size_t i = 1; i <= ITEMS / ENDS; i++)
        if (channel_send(channel, item(who << 32 | i), TASK_FOREVER) < 0)
            abort();
    if (atomic_fetch_sub(&senders_left, 1) == 1)
        channel_close(channel);
}

static void receives(void *arg)
{
    size_t last[ENDS] = { 0 };
    void  *got;
    (void)arg;
    while (channel_recv(channel, &got, TASK_FOREVER) == 0) {
        size_t who = (size_t)got >> 32, i = (size_t)got & UINT32_MAX;
        if (i <= last[who])
            atomic_fetch_add(&disorders, 1);
        last[who] = i;
        atomic_fetch_add(&sum, (long)i);
        atomic_fetch_add(&received, 1);
    }
}

static void starts_ends(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < ENDS; i++) {
        seen.results[0] |= loop_start_on((unsigned)i % loop_count(), "sends", sends, item(i));
        seen.results[0] |= loop_start_on((unsigned)(i / 2) % loop_count(), "receives", receives, NULL);
    }
}

static void items_cross_loops_once_and_in_order(void **state)
{
    static const size_t capacities[] = { 1, 3, 100 };
    (void)state;
    for (unsigned loops = 1; loops <= 2; loops++)
        for (size_t i = 0; i < sizeof capacities / sizeof capacities[0]; i++) {
            atomic_store(&senders_left, ENDS);
            atomic_store(&sum, 0);
            atomic_store(&received, 0);
            run(loops, capacities[i], starts_ends);
            assert_int_equal(seen.results[0], 0);
            assert_int_equal(atomic_load(&received), ITEMS);
            assert_int_equal(atomic_load(&disorders), 0);
            assert_int_equal(atomic_load(&sum), (long)ENDS * (ITEMS / ENDS) * (ITEMS / ENDS + 1) / 2);
        }
}

/* One that is chosen and cancelled at the same moment passes the item on. */

static void receives_one(void *arg)
{
    void *got;
    *(int *)arg = channel_recv(channel, &got, TASK_FOREVER);
}

static void cancels_the_chosen(void *arg)
{
    struct task_group doomed, other;
    (void)arg;
    task_group_init(&doomed);
    task_group_init(&other);
    (void)task_group_start(&doomed, "doomed", receives_one, &seen.results[0]);
    (void)task_group_start(&other, "other", receives_one, &seen.results[1]);
    (void)task_yield();
    seen.results[2] = channel_try_send(channel, item(1));    /* chooses the first */
    task_group_cancel(&doomed);
    (void)task_group_wait(&doomed, TASK_FOREVER);
    seen.results[3] = task_group_wait(&other, task_deadline_in(5 * NS_PER_S));
    task_group_cancel(&other);
    (void)task_group_wait(&other, TASK_FOREVER);
}

static void who_gives_up_passes_the_wake_on(void **state)
{
    (void)state;
    run(1, 1, cancels_the_chosen);
    assert_int_equal(seen.results[0], -ECANCELED);
    assert_int_equal(seen.results[1], 0);
    assert_int_equal(seen.results[2], 0);
    assert_int_equal(seen.results[3], 0);
}

/* A thread that is no loop's may try to send. */

static void *sends_from_outside(void *arg)
{
    for (size_t i = 1; i <= 1000; i++)
        while (channel_try_send(arg, item(i)) == -EAGAIN)
            ;
    channel_close(arg);
    return NULL;
}

static void receives_from_outside(void *arg)
{
    pthread_t thread;
    void     *got;
    (void)arg;
    if (pthread_create(&thread, NULL, sends_from_outside, channel) != 0)
        abort();
    while (channel_recv(channel, &got, TASK_FOREVER) == 0)
        seen.results[0] += got == item((size_t)++seen.results[1]);
    (void)pthread_join(thread, NULL);
}

static void any_thread_may_send(void **state)
{
    (void)state;
    run(1, 10, receives_from_outside);
    assert_int_equal(seen.results[0], 1000);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_empty_and_closed_have_answers),
        cmocka_unit_test(items_cross_loops_once_and_in_order),
        cmocka_unit_test(who_gives_up_passes_the_wake_on),
        cmocka_unit_test(any_thread_may_send),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
