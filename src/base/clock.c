/*
 * Time and randomness from the kernel, or from whoever stands in for it.
 *
 * Random bytes come through a small buffer per thread, since most callers want eight and a system call costs more than
 * they do. A byte is wiped as it is handed out, and a forked child starts with an empty buffer: two processes with the
 * same bytes would make the same ids and keys. Thread-safe; runs in every process.
 */
#include "base/clock.h"
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { RANDOM_KEPT = 256 };

static _Atomic(const struct clock_source *) replaced; /* borrowed; NULL: the kernel */

static _Thread_local struct {
    unsigned char bytes[RANDOM_KEPT];
    size_t left; /* they stand at the end */
} kept;

static const struct clock_source *source(void)
{
    return atomic_load_explicit(&replaced, memory_order_acquire);
}

void clock_replace(const struct clock_source *other)
{
    atomic_store_explicit(&replaced, other, memory_order_release);
}

bool clock_is_replaced(void)
{
    return source() != NULL;
}

static int64_t kernel_ns(clockid_t id)
{
    struct timespec t;
    int r = clock_gettime(id, &t);

    assert(r == 0);
    (void)r;
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

int64_t clock_mono_ns(void)
{
    const struct clock_source *other = source();

    return other != NULL ? other->mono_ns(other->self) : kernel_ns(CLOCK_MONOTONIC);
}

int64_t clock_wall_ns(void)
{
    const struct clock_source *other = source();

    return other != NULL ? other->wall_ns(other->self) : kernel_ns(CLOCK_REALTIME);
}

static void kernel_random(unsigned char *out, size_t n)
{
    while (n > 0) {
        ssize_t got = getrandom(out, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            abort(); /* no kernel we run on refuses, and there is nothing safe to do without */
        out += got;
        n -= (size_t)got;
    }
}

static void forget_kept(void)
{
    explicit_bzero(&kept, sizeof kept);
}

static void watch_forks(void)
{
    /* In the child only the thread that forked lives on, and the handler runs in it: its buffer is the only one in use. */
    if (pthread_atfork(NULL, NULL, forget_kept) != 0)
        abort();
}

static void refill(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, watch_forks);
    kernel_random(kept.bytes, sizeof kept.bytes);
    kept.left = sizeof kept.bytes;
}

void clock_random(void *out, size_t n)
{
    const struct clock_source *other = source();

    if (n == 0)
        return;
    if (other != NULL) {
        other->random(other->self, out, n);
        return;
    }
    if (n > RANDOM_KEPT / 2) {
        kernel_random(out, n);
        return;
    }
    if (kept.left < n)
        refill();
    unsigned char *from = kept.bytes + sizeof kept.bytes - kept.left;
    memcpy(out, from, n);
    explicit_bzero(from, n);
    kept.left -= n;
}

uint64_t clock_random_u64(void)
{
    uint64_t v;

    clock_random(&v, sizeof v);
    return v;
}

uint64_t clock_random_below(uint64_t bound)
{
    assert(bound > 0);
    /* The lowest 2^64 mod bound values are thrown away: the rest is a whole number of rounds of bound, so none is favoured. */
    uint64_t skip = -bound % bound;
    uint64_t v;
    do
        v = clock_random_u64();
    while (v < skip);
    return v % bound;
}
