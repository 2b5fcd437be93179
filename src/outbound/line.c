/*
 * The line; see line.h. Pure.
 *
 * `places` knows where each part is: its ticket, or the number of the site where it is parked. What is parked is never taken out but by a
 * call, so it may be out of date: it counts only if `places` says the same.
 */
#include "outbound/line.h"
#include "base/clock.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define PARTS_MAX (8 * 1024 * 1024)              /* here, in whatever way; more come by their due times only */

#define AGAIN_NS         (1200 * NS_PER_S)       /* what is here already has its turn; this is for what nobody thought of */
#define AGAIN_CROWDED_NS (30 * NS_PER_S)

struct line {
    struct schedule *schedule;                   /* owned */
    struct parking   parking;
    struct map_u64   places;
    size_t           parked;
};

struct line *line_new(const struct schedule_settings *settings, const struct refusals *refusals)
{
    struct line *l = calloc(1, sizeof *l);

    if (l == NULL)
        return NULL;
    l->schedule = schedule_new(settings, refusals);
    if (l->schedule == NULL) {
        free(l);
        return NULL;
    }
    parking_init(&l->parking);
    map_u64_init(&l->places);
    return l;
}

/* -- places ----------------------------------------------------------------------------------------------------------------- */

static uint64_t key_of(uint64_t id, uint64_t route)
{
    uint64_t x = id + route * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 31) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ x >> 29;
}

/* A ticket's address is even. */
static void *mark_of(uint64_t site) { return (void *)(uintptr_t)(site << 1 | 1); }
static bool is_mark(const void *place) { return ((uintptr_t)place & 1) != 0; }
static uint64_t site_of(const void *place) { return (uint64_t)(uintptr_t)place >> 1; }

static void forget(struct line *l, uint64_t id, uint64_t route)
{
    void *place = map_u64_remove(&l->places, key_of(id, route));
    l->parked -= place != NULL && is_mark(place);
}

static void drop(struct line *l, struct ticket *t)
{
    forget(l, t->id, t->route);
    free(t);
}

void line_free(struct line *l)
{
    size_t cursor = 0;
    uint64_t key;
    void *place;

    if (l == NULL)
        return;
    schedule_free(l->schedule);
    while (map_u64_next(&l->places, &cursor, &key, &place))
        if (!is_mark(place))
            free(place);
    map_u64_free(&l->places);
    parking_free(&l->parking);
    free(l);
}

struct schedule *line_schedule(struct line *l) { return l->schedule; }
size_t line_parked(const struct line *l) { return l->parked; }

/* -- into the line ---------------------------------------------------------------------------------------------------------- */

/* Its ticket becomes a place in the parking; without memory for that it only comes again. */
static bool park(struct line *l, struct ticket *t, uint64_t site)
{
    struct parked who = { t->id, t->route, t->band, t->cost };
    uint64_t key = key_of(t->id, t->route);
    bool there = site != 0 && parking_add(&l->parking, site, t->sender, &who) == 0;

    if (!there) {
        drop(l, t);
        return false;
    }
    free(t);
    (void)map_u64_put(&l->places, key, mark_of(site));        /* in the place of its ticket: no memory is asked for */
    l->parked++;
    return true;
}

static enum line_place settle_in(struct line *l, const struct ticket *t, const struct schedule_parked *p, int64_t *again)
{
    struct ticket *outside = p->item == NULL ? NULL : CONTAINER_OF(p->item, struct ticket, item);
    bool ours = outside == t;

    if (outside == NULL)
        return LINE_WAITS;
    bool parked = park(l, outside, p->site);
    if (!ours)
        return LINE_WAITS;                                    /* another had to make room */
    *again = p->until_ns;
    return !parked ? LINE_CROWDED : p->dead ? LINE_DEAD : LINE_PARKED;
}

static enum line_place enter(struct line *l, struct ticket *t, struct schedule_offer *offer, int64_t now, int64_t *again)
{
    struct schedule_parked parked;

    offer->sender = (struct str){ (const char *)&t->sender, sizeof t->sender };
    if (schedule_offer(l->schedule, offer, &t->item, now, &parked) < 0) {
        drop(l, t);
        *again = now + AGAIN_CROWDED_NS;                      /* no memory: it has no turn */
        return LINE_CROWDED;
    }
    return settle_in(l, t, &parked, again);
}

static struct ticket *ticket_new(struct line *l, const struct line_offer *o)
{
    struct ticket *t = l->places.used < PARTS_MAX ? calloc(1, sizeof *t) : NULL;

    if (t == NULL)
        return NULL;
    t->id = o->id;
    t->route = o->route;
    t->sender = o->sender;
    t->band = (uint8_t)o->band;
    t->cost = (uint8_t)o->cost;
    if (map_u64_put(&l->places, key_of(o->id, o->route), t) == 0)
        return t;
    free(t);
    return NULL;
}

/* Whether it is here already. What was parked at a site that has been forgotten since would never be called. */
static bool is_there(struct line *l, const struct line_offer *o, enum line_place *out)
{
    void *place = map_u64_get(&l->places, key_of(o->id, o->route));

    if (place == NULL)
        return false;
    if (!is_mark(place)) {
        *out = LINE_WAITS;
        return true;
    }
    if (schedule_knows(l->schedule, site_of(place))) {
        *out = schedule_is_dead(l->schedule, site_of(place)) ? LINE_DEAD : LINE_PARKED;
        return true;
    }
    parking_forget(&l->parking, site_of(place));
    forget(l, o->id, o->route);
    return false;
}

enum line_place line_offer(struct line *l, const struct line_offer *o, int64_t now_ns, int64_t *out_again_ns)
{
    enum line_place place;

    *out_again_ns = now_ns + AGAIN_NS;
    if (is_there(l, o, &place))
        return place;
    struct ticket *t = ticket_new(l, o);
    if (t == NULL) {
        *out_again_ns = now_ns + AGAIN_CROWDED_NS;
        return LINE_CROWDED;
    }
    struct schedule_offer offer = { .site = o->site, .provider = o->provider, .band = o->band, .cost = o->cost, .fixed = o->fixed };
    offer.behind = parking_has_sender(&l->parking, schedule_number(l->schedule, o->site), o->sender);
    return enter(l, t, &offer, now_ns, out_again_ns);
}

/* -- calls ------------------------------------------------------------------------------------------------------------------ */

/* It is parked there still, as far as we know. */
static bool counts(const struct line *l, const struct parked *who, uint64_t site)
{
    return map_u64_get(&l->places, key_of(who->id, who->route)) == mark_of(site);
}

static bool call_one(struct line *l, uint64_t site, int64_t now)
{
    struct parked who;
    uint64_t sender;
    int64_t again;

    do
        if (!parking_take(&l->parking, site, &who, &sender))
            return false;
    while (!counts(l, &who, site));
    forget(l, who.id, who.route);
    struct line_offer o = { .id = who.id, .route = who.route, .sender = sender, .band = (enum turns_band)who.band, .cost = who.cost };
    struct schedule_offer offer = { .site = schedule_key_of(l->schedule, site), .band = o.band, .cost = o.cost };
    struct ticket *t = ticket_new(l, &o);
    if (t != NULL)
        (void)enter(l, t, &offer, now, &again);               /* without memory it comes when it is due */
    return true;
}

static void answer_calls(struct line *l, int64_t now)
{
    struct schedule_parked parked;
    struct schedule_call call;

    while (schedule_shed(l->schedule, now, &parked))
        (void)park(l, CONTAINER_OF(parked.item, struct ticket, item), parked.site);
    while (schedule_calls(l->schedule, &call)) {
        for (size_t i = 0; i < call.count && call_one(l, call.site, now); i++)
            ;
        schedule_answered(l->schedule, call.site, parking_has(&l->parking, call.site));
    }
}

/* -- turns ------------------------------------------------------------------------------------------------------------------ */

struct ticket *line_next(struct line *l, int64_t now_ns, int64_t *out_ask_again_ns)
{
    answer_calls(l, now_ns);
    struct schedule_item *item = schedule_next(l->schedule, now_ns, out_ask_again_ns);
    if (item == NULL)
        return NULL;
    struct ticket *t = CONTAINER_OF(item, struct ticket, item);
    t->begun = true;
    t->next = NULL;
    return t;
}

int64_t line_end(struct line *l, struct ticket *t, const struct schedule_result *result, int64_t now_ns)
{
    assert(t->begun);
    int64_t not_before = schedule_end(l->schedule, &t->item, result, now_ns);
    drop(l, t);
    return not_before;
}
