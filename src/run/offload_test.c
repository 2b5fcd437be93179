/*
 * Offload: from many tasks of several loops, full queues, cancellation, and through a driver.
 */
#include "run/offload.h"
#include "run/loop.h"
#include "run/loop_internal.h"
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

#define TASKS 200
#define JOBS  20

static struct {
    int results[8];
} seen;

static struct offload *pool;
static atomic_int      jobs_done, failures;

static void job(void *arg)
{
    (*(int *)arg)++;
    atomic_fetch_add(&jobs_done, 1);
}

static void offloads_often(void *arg)
{
    (void)arg;
    for (int i = 0; i < JOBS; i++) {
        int ran = 0;
        if (offload_run(pool, job, &ran) < 0 || ran != 1)
            atomic_fetch_add(&failures, 1);
    }
}

static void starts_offloaders(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < TASKS; i++)
        if (loop_start_on(i % loop_count(), "offloads", offloads_often, NULL) < 0)
            atomic_fetch_add(&failures, 1);
}

static void many_tasks_offload(void **state)
{
    (void)state;
    for (unsigned loops = 1; loops <= 2; loops++) {
        atomic_store(&jobs_done, 0);
        atomic_store(&failures, 0);
        pool = offload_new("test", 3, TASKS);
        assert_non_null(pool);
        assert_int_equal(loop_run(loops, starts_offloaders, NULL), 0);
        offload_free(pool);
        assert_int_equal(atomic_load(&failures), 0);
        assert_int_equal(atomic_load(&jobs_done), TASKS * JOBS);
    }
}

/* One helper held at a gate, one job waiting: the third is refused and not run. */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static atomic_int      at_gate;

static void passes_the_gate(void *arg)
{
    (void)arg;
    atomic_fetch_add(&at_gate, 1);
    (void)pthread_mutex_lock(&gate);
    (void)pthread_mutex_unlock(&gate);
    atomic_fetch_add(&jobs_done, 1);
}

static void fills_the_queue(void *arg)
{
    (void)arg;
    (void)pthread_mutex_lock(&gate);
    seen.results[0] = offload_post(pool, passes_the_gate, NULL);
    while (atomic_load(&at_gate) == 0)
        (void)task_sleep(NS_PER_MS / 10);
    seen.results[1] = offload_post(pool, passes_the_gate, NULL);
    seen.results[2] = offload_post(pool, passes_the_gate, NULL);
    seen.results[3] = offload_run(pool, passes_the_gate, NULL);
    (void)pthread_mutex_unlock(&gate);
}

static void a_full_queue_is_an_answer(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof seen);
    atomic_store(&jobs_done, 0);
    pool = offload_new("test", 1, 1);
    assert_int_equal(loop_run(1, fills_the_queue, NULL), 0);
    offload_free(pool);                          /* what was taken is run before it returns */
    assert_int_equal(seen.results[0], 0);
    assert_int_equal(seen.results[1], 0);
    assert_int_equal(seen.results[2], -EAGAIN);
    assert_int_equal(seen.results[3], -EAGAIN);
    assert_int_equal(atomic_load(&jobs_done), 2);
    offload_free(NULL);
}

/* A cancelled task still waits for its job, whose argument stands on its stack. */

static void offloads_although_canceled(void *arg)
{
    (void)arg;
    seen.results[0] = offload_run(pool, passes_the_gate, NULL);
    seen.results[1] = atomic_load(&jobs_done);
    seen.results[2] = offload_run(pool, passes_the_gate, NULL);
    seen.results[3] = task_yield();
}

static void cancels_an_offloader(void *arg)
{
    struct task_group g;
    (void)arg;
    task_group_init(&g);
    (void)pthread_mutex_lock(&gate);
    (void)task_group_start(&g, "offloads", offloads_although_canceled, NULL);
    (void)task_yield();
    task_group_cancel(&g);
    seen.results[4] = task_group_wait(&g, task_deadline_in(NS_PER_MS));
    (void)pthread_mutex_unlock(&gate);
    seen.results[5] = task_group_wait(&g, TASK_FOREVER);
}

static void cancellation_waits_for_the_job(void **state)
{
    static const int expected[] = { 0, 1, 0, -ECANCELED, -ETIMEDOUT, 0 };
    (void)state;
    memset(&seen, 0, sizeof seen);
    atomic_store(&jobs_done, 0);
    pool = offload_new("test", 2, 10);
    assert_int_equal(loop_run(1, cancels_an_offloader, NULL), 0);
    offload_free(pool);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_int_equal(seen.results[i], expected[i]);
}

/* Through a driver, whose events run the jobs, the last posted first. */

static struct {
    void (*fn)(void *arg);
    void  *arg;
} posted[16];
static int  posted_count;
static char posted_to[16];

static int post(void *self, void (*fn)(void *arg), void *arg, const char *pool_name)
{
    (void)self;
    posted[posted_count].fn = fn;
    posted[posted_count++].arg = arg;
    strncpy(posted_to, pool_name, sizeof posted_to - 1);
    return 0;
}

static int64_t virtual_ns;

static int drive(void *self, int64_t next_deadline_ns)
{
    (void)self;
    if (posted_count == 0 && next_deadline_ns == TASK_FOREVER)
        return -EDEADLK;
    if (posted_count == 0) {
        virtual_ns = next_deadline_ns;
        return 0;
    }
    posted_count--;
    posted[posted_count].fn(posted[posted_count].arg);
    return 0;
}

static void offloads_driven(void *arg)
{
    int ran[3] = { 0 };
    (void)arg;
    pool = offload_new("driven", 4, 2);
    seen.results[0] = offload_post(pool, job, &ran[0]);
    seen.results[1] = ran[0];
    seen.results[2] = offload_run(pool, job, &ran[1]);
    seen.results[3] = ran[0] + ran[1];           /* the other one has not run yet */
    seen.results[4] = offload_post(pool, job, &ran[2]);
    seen.results[5] = offload_post(pool, job, &ran[2]);
    seen.results[6] = offload_run(pool, job, &ran[2]);
    while (ran[0] + ran[2] < 2)
        if (task_sleep(1) < 0)
            break;
    seen.results[7] = ran[0] + ran[1] + ran[2];
    offload_free(pool);
}

static int64_t virtual_now(void *self)
{
    (void)self;
    return virtual_ns;
}

static void a_driver_takes_the_place_of_threads(void **state)
{
    static const struct loop_driver    driver = { .wait = drive };
    static const struct offload_driver helper = { .post = post };
    static const struct clock_source   virtual_clock = { .mono_ns = virtual_now, .wall_ns = virtual_now };
    static const int                   expected[] = { 0, 0, 0, 1, 0, -EAGAIN, -EAGAIN, 3 };
    (void)state;
    memset(&seen, 0, sizeof seen);
    clock_replace(&virtual_clock);
    offload_replace(&helper);
    int r = loop_run_driven(&driver, offloads_driven, NULL);
    offload_replace(NULL);
    clock_replace(NULL);
    assert_int_equal(r, 0);
    assert_string_equal(posted_to, "driven");
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_int_equal(seen.results[i], expected[i]);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_tasks_offload),
        cmocka_unit_test(a_full_queue_is_an_answer),
        cmocka_unit_test(cancellation_waits_for_the_job),
        cmocka_unit_test(a_driver_takes_the_place_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
