/*
 * Rates. What a name has used is paid for by time: its bucket is the instant up to which it has paid, and it may be an hour ahead of now.
 * A name that has paid for everything is as good as a new one, and is forgotten when room is needed.
 *
 * The lock is held for a look into a table. Runs in the worker.
 */
#include "base/rate.h"
#include "base/clock.h"
#include "base/map.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define HOUR_NS (3600 * NS_PER_S)

struct bucket {
    int64_t paid_until_ns;
    size_t  n;
    char    name[];
};

struct rate {
    pthread_mutex_t lock;
    struct map_str  buckets;             /* of struct bucket, owned */
    size_t          names_max;
};

struct rate *rate_new(size_t names_max)
{
    struct rate *r = calloc(1, sizeof *r);

    if (r == NULL)
        return NULL;
    (void)pthread_mutex_init(&r->lock, NULL);
    map_str_init(&r->buckets);
    r->names_max = names_max;
    return r;
}

static void forget(struct rate *r, int64_t paid_before_ns)
{
    size_t cursor = 0;
    struct str name;
    void *value;

    while (map_str_next(&r->buckets, &cursor, &name, &value)) {
        struct bucket *b = value;
        if (b->paid_until_ns < paid_before_ns) {
            (void)map_str_remove(&r->buckets, name);
            free(b);
        }
    }
}

void rate_free(struct rate *r)
{
    if (r == NULL)
        return;
    forget(r, INT64_MAX);
    map_str_free(&r->buckets);
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
}

static struct bucket *find_or_add(struct rate *r, struct str name, int64_t now)
{
    struct bucket *b = map_str_get(&r->buckets, name);

    if (b != NULL)
        return b;
    if (r->buckets.used >= r->names_max)
        forget(r, now);
    b = r->buckets.used >= r->names_max ? NULL : malloc(sizeof *b + name.n);
    if (b == NULL)
        return NULL;
    *b = (struct bucket){ .paid_until_ns = now, .n = name.n };
    memcpy(b->name, name.p, name.n);
    if (map_str_put(&r->buckets, (struct str){ b->name, b->n }, b) == 0)
        return b;
    free(b);
    return NULL;
}

bool rate_take(struct rate *r, struct str name, uint32_t cost, uint32_t per_hour)
{
    int64_t now = clock_mono_ns(), price;

    if (per_hour == 0)
        return true;
    if (name.n == 0 || __builtin_mul_overflow(HOUR_NS / per_hour, (int64_t)cost, &price))
        return false;
    (void)pthread_mutex_lock(&r->lock);
    struct bucket *b = find_or_add(r, name, now);
    int64_t from = b == NULL || b->paid_until_ns < now ? now : b->paid_until_ns;
    bool ok = b != NULL && price <= HOUR_NS && from + price <= now + HOUR_NS;
    if (ok)
        b->paid_until_ns = from + price;
    (void)pthread_mutex_unlock(&r->lock);
    return ok;
}
