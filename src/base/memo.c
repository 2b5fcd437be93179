/*
 * A direct-mapped table; the first bytes of the sum are the place.
 */
#include "base/memo.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct slot {
    uint8_t sum[DIGEST_SHA256_LEN];
    int64_t until_ns;
    size_t  n;
    char    value[];
};

struct memo {
    pthread_mutex_t lock;                /* of the slots */
    size_t          count, value_max, stride;
    char            slots[] __attribute__((aligned(16)));
};

struct memo *memo_new(size_t slots, size_t value_max)
{
    size_t stride = (sizeof(struct slot) + value_max + 15) / 16 * 16, total;

    if (__builtin_mul_overflow(slots, stride, &total))
        return NULL;
    struct memo *m = calloc(1, sizeof *m + total);
    if (m == NULL)
        return NULL;
    (void)pthread_mutex_init(&m->lock, NULL);
    m->count = slots;
    m->value_max = value_max;
    m->stride = stride;
    return m;
}

void memo_free(struct memo *m)
{
    if (m == NULL)
        return;
    (void)pthread_mutex_destroy(&m->lock);
    explicit_bzero(m->slots, m->count * m->stride);
    free(m);
}

static struct slot *slot_of(struct memo *m, const uint8_t sum[DIGEST_SHA256_LEN])
{
    uint64_t n;

    memcpy(&n, sum, sizeof n);
    return (struct slot *)(void *)(m->slots + n % m->count * m->stride);
}

void memo_put(struct memo *m, const uint8_t sum[DIGEST_SHA256_LEN], struct str value, int64_t until_ns)
{
    if (value.n > m->value_max)
        return;
    pthread_mutex_lock(&m->lock);
    struct slot *s = slot_of(m, sum);
    memcpy(s->sum, sum, sizeof s->sum);
    s->until_ns = until_ns;
    s->n = value.n;
    memcpy(s->value, value.p, value.n);
    pthread_mutex_unlock(&m->lock);
}

bool memo_get(struct memo *m, const uint8_t sum[DIGEST_SHA256_LEN], int64_t now_ns, struct buf *out)
{
    pthread_mutex_lock(&m->lock);
    const struct slot *s = slot_of(m, sum);
    bool known = s->until_ns > now_ns && digest_equal(s->sum, sum, sizeof s->sum);
    if (known)
        buf_put(out, s->value, s->n);
    pthread_mutex_unlock(&m->lock);
    return known && buf_ok(out);
}
