/*
 * The pace of a site; see pace.h. Pure. All arithmetic is in whole numbers, so that a simulation is the same on every machine.
 */
#include "outbound/pace.h"
#include "base/clock.h"
#include <assert.h>

#define UNIT            INT64_C(1000)            /* thousandths */
#define MINUTE_NS       (60 * NS_PER_S)
#define TRY_FIRST_NS    (2 * MINUTE_NS)          /* after the first cut */
#define TRY_LEAST_NS    (15 * NS_PER_S)
#define TRY_MOST_NS     (10 * MINUTE_NS)
#define DOUBLING        (8 * UNIT)               /* up to so many at a time; then two more with each round, so that a refusal hits few */
#define STEP_PART       16                       /* a first try: so small a part more */
#define CLIMB_NS        (30 * NS_PER_S)          /* from half of the ceiling back to it */
#define SLOT_NS         (5 * NS_PER_S)
#define RATE_LEAST      INT64_C(10)              /* one in 100 s: slower than any limit that mail is worth being sent under */
#define RATE_MOST       (100000 * UNIT)
#define REST_FIRST_NS   (30 * NS_PER_S)          /* of a dead site */
#define REST_MOST_NS    (30 * MINUTE_NS)
#define REST_BLOCKED_NS (60 * MINUTE_NS)
#define REST_ASKED_NS   (5 * NS_PER_S)           /* it is too fast for it, and it did not say for how long */
#define FAILURES        3                        /* in a row, at a site that was well a moment ago: one server of several may be down */
#define IPV4_NS         (6 * 60 * MINUTE_NS)
#define REMEMBER_NS     (30 * MINUTE_NS)
#define REMEMBER_CUT_NS (12 * 60 * MINUTE_NS)

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* -- one limit -------------------------------------------------------------------------------------------------------------- */

static bool has_ceiling(const struct pace_limit *l)
{
    return l->ceiling <= l->max;
}

static void limit_init(struct pace_limit *l, int64_t value, int64_t min, int64_t max)
{
    *l = (struct pace_limit){ .value = value, .ceiling = max + 1, .max = max, .min = min };
}

static void limit_configure(struct pace_limit *l, int64_t max)
{
    if (!has_ceiling(l))
        l->ceiling = max + 1;
    l->max = max;
    if (l->ceiling > max + 1)
        l->ceiling = max + 1;
    l->value = least(l->value, max);
}

/* Not of what was on its way when the limit was cut last. */
static bool limit_is_news(const struct pace_limit *l, int64_t began_ns)
{
    return l->cut_ns == 0 || began_ns >= l->cut_ns;
}

/* Tries that came to nothing are made after twice the time; after some that brought much, the next ones come soon. */
static void limit_cut(struct pace_limit *l, int64_t ceiling, int64_t value, int64_t now)
{
    if (l->step > 0)
        l->try_every_ns = ceiling > l->base * 5 / 4 ? TRY_FIRST_NS : least(2 * l->base_every_ns, TRY_MOST_NS);
    l->try_every_ns = most(l->try_every_ns, TRY_FIRST_NS);
    l->kept = most(ceiling, l->min);
    l->ceiling = l->kept;
    l->value = most(least(value, l->ceiling), l->min);
    l->step = 0;
    l->cut_ns = l->moved_ns = now;
    l->try_ns = now + l->try_every_ns;
}

/* Back to the ceiling, evenly. */
static void climb(struct pace_limit *l, int64_t now)
{
    int64_t gone = least(now - l->moved_ns, CLIMB_NS), more = (l->ceiling / 2 + 1) * gone / CLIMB_NS;

    if (more == 0)
        return;                                               /* later, from the same time on */
    l->value = least(l->value + more, l->ceiling);
    l->moved_ns = now;
}

/* The ceiling was borne for a while, and used: a little more. */
static void try_more(struct pace_limit *l, int64_t now)
{
    int64_t first = most(l->ceiling / STEP_PART, l->min);

    if (l->step > 0) {
        l->try_every_ns = most(l->try_every_ns / 4, TRY_LEAST_NS);
    } else {
        l->base = l->ceiling;
        l->base_every_ns = l->try_every_ns;
    }
    l->step = l->step == 0 ? first : least(2 * l->step, most(l->ceiling / 4, l->min));
    l->ceiling = least(l->ceiling + l->step, l->max + 1);     /* beyond the maximum: what was learnt is void */
    l->value = least(l->ceiling, l->max);
    l->moved_ns = now;
    l->try_ns = now + l->try_every_ns;
    if (!has_ceiling(l))
        l->try_every_ns = l->step = 0;
}

static void limit_bore(struct pace_limit *l, bool in_use, int64_t now)
{
    if (!in_use || !has_ceiling(l))
        return;
    if (l->value < l->ceiling)
        climb(l, now);
    else if (now >= l->try_ns)
        try_more(l, now);
}

/* -- the site --------------------------------------------------------------------------------------------------------------- */

static int64_t rate_max(const struct pace_settings *settings)
{
    int64_t rate = (int64_t)settings->rate_per_hour_max * UNIT / 3600;
    return rate == 0 ? RATE_MOST : most(rate, RATE_LEAST);
}

static int64_t first_rest(const struct pace_settings *settings)
{
    return settings->rest_ns > 0 ? settings->rest_ns : REST_FIRST_NS;
}

void pace_init(struct pace *p, const struct pace_settings *settings)
{
    assert(settings->connections_max > 0);
    *p = (struct pace){ .rated = settings->rate_per_hour_max > 0, .fixed = settings->fixed, .proven = settings->fixed };
    p->first_rest_ns = first_rest(settings);
    limit_init(&p->together, settings->fixed ? settings->connections_max * UNIT : UNIT, UNIT, settings->connections_max * UNIT);
    limit_init(&p->rate, rate_max(settings), RATE_LEAST, rate_max(settings));
}

void pace_configure(struct pace *p, const struct pace_settings *settings)
{
    assert(settings->connections_max > 0);
    limit_configure(&p->together, settings->connections_max * UNIT);
    p->first_rest_ns = first_rest(settings);
    if (p->fixed)
        p->together.value = p->together.max;
    limit_configure(&p->rate, rate_max(settings));
    p->rated = settings->rate_per_hour_max > 0 || has_ceiling(&p->rate);
}

/* Of a site that we know nothing of, or nothing good: one goes ahead. */
static uint32_t room(const struct pace *p)
{
    return p->proven ? (uint32_t)(p->together.value / UNIT) : 1;
}

int64_t pace_when(const struct pace *p, int64_t now_ns)
{
    if (p->inside >= room(p))
        return PACE_NEVER;
    return most(most(p->rest_until_ns, p->rated ? p->next_ns : 0), now_ns);
}

/* Whoever comes a little late may catch up by one: a clock that ticks in milliseconds does not lower the rate. */
void pace_begin(struct pace *p, int64_t now_ns)
{
    int64_t between = UNIT * NS_PER_S / p->rate.value;

    p->inside++;
    if (p->inside == 1 || p->inside > p->peak)
        p->peak = p->inside;
    if (p->inside >= room(p))
        p->full_ns = now_ns;
    p->next_ns = most(p->next_ns, now_ns - between) + between;
}

static void count_taken(struct pace *p, int64_t now)
{
    if (now >= p->slot_ns + 2 * SLOT_NS)
        p->taken = 0;
    if (now >= p->slot_ns + SLOT_NS) {
        p->taken_before = p->taken;
        p->taken = 0;
        p->slot_ns = now;
    }
    p->taken++;
}

/* What it took of late, thousandths a second. */
static int64_t rate_taken(const struct pace *p, int64_t now)
{
    int64_t gone = now - p->slot_ns, count = (int64_t)p->taken + p->taken_before;

    if (gone >= 2 * SLOT_NS)
        return 0;
    return count * UNIT * NS_PER_S / (SLOT_NS + least(gone, SLOT_NS));
}

static void rest(struct pace *p, int64_t until_ns)
{
    p->rest_until_ns = most(p->rest_until_ns, until_ns);
}

/* Each refusal of those that were there together says that one less has room: eight came, three were refused, so there is room for five. */
static void too_many(struct pace *p, int64_t began, int64_t now)
{
    struct pace_limit *l = &p->together;

    if (limit_is_news(l, began)) {
        int64_t ceiling = ((int64_t)p->peak - 1) * UNIT;
        bool alone = p->peak == 1;
        limit_cut(l, ceiling, ceiling, now);
        p->peak = p->inside;
        if (alone) {                                          /* not even one: then time must help */
            p->rest_ns = p->rest_ns == 0 ? REST_ASKED_NS : least(2 * p->rest_ns, REST_MOST_NS);
            rest(p, now + p->rest_ns);
        }
        return;
    }
    l->ceiling = most(most(l->ceiling - UNIT, l->kept / 2), l->min);
    l->value = least(l->value, l->ceiling);
}

/* After tries in vain the ceiling is what it was before, or between the last two: the site may have borne the last but one on credit (a
 * bucket) for a while. Where it was given the time that it asked for, there is credit again. */
static void too_fast(struct pace *p, int64_t wait, int64_t began, int64_t now)
{
    struct pace_limit *l = &p->rate;

    if (limit_is_news(l, began)) {
        int64_t before = has_ceiling(l) ? l->ceiling : most(least(rate_taken(p, now), l->value), l->min);
        int64_t ceiling = l->step > 0 ? before - l->step - l->step / 2 : has_ceiling(l) ? before * 7 / 8 : before * 3 / 4;
        limit_cut(l, ceiling, wait > 0 ? ceiling * 3 / 4 : ceiling / 2, now);
        p->rated = true;
        p->next_ns = most(p->next_ns, now + UNIT * NS_PER_S / l->value);
        wait = most(wait, REST_ASKED_NS);
    }
    rest(p, now + wait);
}

/* One decrease for all that was on its way. */
static void dead(struct pace *p, int64_t first, int64_t longest, int64_t began, int64_t now)
{
    p->proven = false;
    if (p->down_ns != 0 && began < p->down_ns)
        return;
    p->together.value = p->together.min;                      /* when it is back, not all at once */
    p->together.moved_ns = now;
    p->rest_ns = p->rest_ns == 0 ? first : least(2 * p->rest_ns, longest);
    p->down_ns = now;
    rest(p, now + p->rest_ns);
}

static void unreached(struct pace *p, int64_t wait, int64_t began, int64_t now)
{
    p->failures++;
    if (!p->proven || p->failures >= FAILURES)
        dead(p, most(p->first_rest_ns, wait), most(REST_MOST_NS, wait), began, now);
}

static void open_more(struct pace_limit *l)
{
    l->value = least(l->value + (l->value < DOUBLING ? UNIT : 2 * UNIT * UNIT / l->value), l->max);
}

/* Does the rate hold the next one back, or did it hold back the last one? */
static bool is_paced(const struct pace *p, int64_t now)
{
    return p->rated && now < p->next_ns + UNIT * NS_PER_S / p->rate.value;
}

/* Answers of what was on its way when a limit was cut tell nothing of the new one. */
static void taken(struct pace *p, bool was_full, int64_t began, int64_t now)
{
    count_taken(p, now);
    p->failures = 0;
    if (began < p->down_ns)
        return;
    p->proven = true;
    p->rest_ns = 0;
    if (!has_ceiling(&p->together) && was_full)
        open_more(&p->together);
    limit_bore(&p->together, was_full && began >= p->together.cut_ns, now);
    limit_bore(&p->rate, is_paced(p, now) && began >= p->rate.cut_ns, now);
}

void pace_end(struct pace *p, enum pace_event event, int64_t wait_ns, int64_t began_ns, int64_t now_ns)
{
    bool was_full = p->full_ns >= began_ns;

    assert(p->inside > 0);
    switch (p->fixed ? PACE_NOTHING : event) {
    case PACE_TAKEN:     taken(p, was_full, began_ns, now_ns); break;
    case PACE_TOO_MANY:  p->failures = 0; too_many(p, began_ns, now_ns); rest(p, now_ns + wait_ns); break;
    case PACE_TOO_FAST:  p->failures = 0; too_fast(p, wait_ns, began_ns, now_ns); break;
    case PACE_BLOCKED:   dead(p, most(REST_BLOCKED_NS, wait_ns), most(6 * REST_BLOCKED_NS, wait_ns), began_ns, now_ns); break;
    case PACE_UNREACHED: unreached(p, wait_ns, began_ns, now_ns); break;
    case PACE_FAMILY:    p->failures = 0; p->ipv4_until_ns = now_ns + IPV4_NS; break;
    case PACE_NOTHING:   break;
    }
    p->inside--;
}

bool pace_is_down(const struct pace *p, int64_t now_ns)
{
    return !p->proven && p->rest_until_ns > now_ns;
}

bool pace_wants_ipv4(const struct pace *p, int64_t now_ns)
{
    return p->ipv4_until_ns > now_ns;
}

uint64_t pace_per_hour(const struct pace *p, int64_t now_ns)
{
    int64_t rate = most(rate_taken(p, now_ns), UNIT);

    if (p->rated)
        rate = least(rate, p->rate.value);
    return (uint64_t)most(rate * 3600 / UNIT, 1);
}

int64_t pace_forget_ns(const struct pace *p, int64_t now_ns)
{
    bool learnt = has_ceiling(&p->together) || has_ceiling(&p->rate);
    return most(now_ns + (learnt ? REMEMBER_CUT_NS : REMEMBER_NS), most(p->rest_until_ns + p->rest_ns, p->ipv4_until_ns));
}
