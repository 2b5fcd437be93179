/*
 * The date without its jumps: see steady_date.h.
 */
#include "outbound/steady_date.h"
#include "base/clock.h"
#include <string.h>

#define JUMP_LEAST_NS (300 * NS_PER_S)   /* less than that is the clock being set right, and no matter for times of days */

void steady_date_init(struct steady_date *d, int64_t wall_ns, int64_t mono_ns)
{
    *d = (struct steady_date){ .spans = { { wall_ns, wall_ns, mono_ns } }, .count = 1, .mono_ns = mono_ns };
}

/* The first one stays: what is older than the server is counted by it. */
static void add_span(struct steady_date *d, const struct steady_span *span)
{
    if (d->count == STEADY_DATE_JUMPS_MAX)
        memmove(&d->spans[1], &d->spans[2], (--d->count - 1) * sizeof d->spans[0]);
    d->spans[d->count++] = *span;
}

int64_t steady_date_look(struct steady_date *d, int64_t wall_ns, int64_t mono_ns)
{
    struct steady_span *now = &d->spans[d->count - 1];
    int64_t before_wall = now->last_wall_ns, before_mono = d->mono_ns, steady = before_wall + mono_ns - before_mono, jump = wall_ns - steady;

    d->mono_ns = mono_ns;
    if (jump > -JUMP_LEAST_NS && jump < JUMP_LEAST_NS) {
        now->last_wall_ns = wall_ns;
        return 0;
    }
    now->last_wall_ns = steady;          /* it jumped at some time between the looks: the spans meet both ends */
    add_span(d, &(struct steady_span){ before_wall + jump, wall_ns, before_mono });
    return jump;
}

/* The latest that has this date in it; or the first, for what is older; NULL: none has. */
static const struct steady_span *find_span(const struct steady_date *d, int64_t begin_wall_ns)
{
    for (unsigned i = d->count; i-- > 0;)
        if (begin_wall_ns >= d->spans[i].first_wall_ns && begin_wall_ns <= d->spans[i].last_wall_ns)
            return &d->spans[i];
    return begin_wall_ns < d->spans[0].first_wall_ns ? &d->spans[0] : NULL;
}

int64_t steady_date_for(const struct steady_date *d, int64_t begin_wall_ns)
{
    const struct steady_span *span = find_span(d, begin_wall_ns);

    if (span == NULL)                    /* from a date that we have not seen */
        return d->spans[d->count - 1].last_wall_ns;
    return span->first_wall_ns + d->mono_ns - span->first_mono_ns;
}
