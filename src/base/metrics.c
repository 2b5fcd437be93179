/*
 * Counters and gauges. Relaxed atomics: each number is right by itself, and nothing is said about two of them at one
 * instant. Each stands in a cache line of its own, so that loops counting different things do not slow each other.
 */
#include "base/metrics.h"
#include <assert.h>
#include <stdatomic.h>

enum { CACHE_LINE = 64 };

static struct {
    _Alignas(CACHE_LINE) _Atomic int64_t value;
} table[METRIC_COUNT];

static const char *const names[METRIC_COUNT] = {
#define METRIC_NAME(name) #name,
    METRICS(METRIC_NAME)
#undef METRIC_NAME
};

void metric_add(enum metric m, int64_t delta)
{
    assert(m < METRIC_COUNT);
    atomic_fetch_add_explicit(&table[m].value, delta, memory_order_relaxed);
}

int64_t metric_get(enum metric m)
{
    assert(m < METRIC_COUNT);
    return atomic_load_explicit(&table[m].value, memory_order_relaxed);
}

const char *metric_name(enum metric m)
{
    assert(m < METRIC_COUNT);
    return names[m];
}
