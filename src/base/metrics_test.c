/*
 * Metrics: names, and sums that lose nothing between threads.
 */
#include "base/metrics.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { THREADS = 3, ADDS = 10000 };

static void every_metric_has_its_name(void **state)
{
    (void)state;
    assert_string_equal(metric_name(METRIC_sessions_open), "sessions_open");
    assert_string_equal(metric_name(METRIC_loop_turns_slow), "loop_turns_slow");
    for (int m = 0; m < METRIC_COUNT; m++)
        assert_non_null(metric_name((enum metric)m));
}

static void *add_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < ADDS; i++) {
        metric_add(METRIC_sessions_total, 1);
        metric_add(METRIC_sessions_open, i % 2 == 0 ? 1 : -1);
    }
    return NULL;
}

static void loses_nothing(void **state)
{
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(metric_get(METRIC_sessions_total), THREADS * ADDS);
    assert_int_equal(metric_get(METRIC_sessions_open), 0);
    metric_add(METRIC_queue_messages, -3);
    assert_int_equal(metric_get(METRIC_queue_messages), -3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_metric_has_its_name),
        cmocka_unit_test(loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
