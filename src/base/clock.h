/*
 * Time and randomness: the one door to both, so that a simulated world can stand behind it.
 *
 * Timers use the monotonic clock; dates in messages and records use the wall clock. All in nanoseconds.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NS_PER_US INT64_C(1000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S  INT64_C(1000000000)

struct clock_source {
    int64_t (*mono_ns)(void *self);
    int64_t (*wall_ns)(void *self);              /* since 1970-01-01 UTC */
    void    (*random)(void *self, void *out, size_t n);
    void     *self;
};

int64_t  clock_mono_ns(void);
int64_t  clock_wall_ns(void);
void     clock_random(void *out, size_t n);      /* from the kernel; never fails (the process stops if the kernel cannot) */
uint64_t clock_random_u64(void);
uint64_t clock_random_below(uint64_t bound);     /* uniform in 0 .. bound-1; bound > 0 */

/* Put another source in place for the whole process (tests, the simulated world); NULL restores the real one. It is
 * borrowed until it is replaced in turn. */
void clock_replace(const struct clock_source *source);
bool clock_is_replaced(void);

#endif
