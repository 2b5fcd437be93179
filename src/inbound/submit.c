/*
 * Messages per uid and hour: a bucket that fills evenly, so that the limit holds for any hour, not only from full hour to full hour.
 */
#include "inbound/submit.h"
#include "base/clock.h"
#include <stdlib.h>

#define HOUR_NS (3600 * NS_PER_S)

struct submit_count {
    int64_t spent_until_ns;              /* what was taken is paid for by time up to here */
};

void submit_limit_init(struct submit_limit *l) { map_u64_init(&l->by_uid); }

void submit_limit_free(struct submit_limit *l)
{
    size_t cursor = 0;
    uint64_t uid;
    void *count;

    while (map_u64_next(&l->by_uid, &cursor, &uid, &count))
        free(count);
    map_u64_free(&l->by_uid);
}

/* Grows with the users of this machine, not with what a stranger sends. */
static struct submit_count *find_or_add(struct submit_limit *l, unsigned uid)
{
    struct submit_count *count = map_u64_get(&l->by_uid, uid);

    if (count != NULL)
        return count;
    count = calloc(1, sizeof *count);
    if (count != NULL && map_u64_put(&l->by_uid, uid, count) < 0) {
        free(count);
        return NULL;
    }
    return count;
}

bool submit_limit_take(struct submit_limit *l, unsigned uid, uint32_t per_hour)
{
    struct submit_count *count = find_or_add(l, uid);
    int64_t now = clock_mono_ns(), cost = HOUR_NS / per_hour;

    if (count == NULL)
        return false;
    int64_t from = count->spent_until_ns > now ? count->spent_until_ns : now;
    if (from + cost > now + HOUR_NS)
        return false;
    count->spent_until_ns = from + cost;
    return true;
}
