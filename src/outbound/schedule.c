/*
 * The schedule; see schedule.h. A site is in one of these states, told by where it is:
 *
 *     ready    somebody waits, and somebody may begin, now or at a known time: in the heap `ready`, by that time
 *     trial    likewise, at a site that is not proven: in the heap `trial`
 *     full     somebody waits, and nobody may begin before one of those inside has come back: in no heap
 *     quiet    nobody waits, nobody is inside: in the heap `quiet`, by the time when it is forgotten
 *
 * Pure. The keys of sites that are ready grow by one at least from one choice to the next, so that those that could all begin now go in
 * turn.
 */
#include "outbound/schedule.h"
#include "base/clock.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COST_BYTES        (32 * 1024)            /* a part of a message that costs as much as a message */
#define PART              8
#define FEW               4                      /* messages of a site that have room whatever there is in all */
#define ROOM_DEAD         1                      /* at a site that is dead: who will be the probe */
#define PARK_NS           (900 * NS_PER_S)       /* so long or twice that: whoever is never called comes by itself */
#define URGED_EVERY_NS    (10 * NS_PER_S)        /* one probe in so long is for those who ask, however many messages they ask for */
#define PARK_NO_SITE_NS   (30 * NS_PER_S)
#define SPREAD            UINT64_C(0x9e3779b97f4a7c15)   /* the golden ratio: each next one far from those before */

struct schedule_site {
    struct heap_node      node;                  /* in ready, or quiet */
    enum { SITE_FULL, SITE_READY, SITE_TRIAL, SITE_QUIET } state;
    uint64_t              number;
    struct pace           pace;
    struct turns          turns;
    const struct refusal_provider *provider;
    int64_t               urged_ns;              /* the last time that counted; 0: none */
    bool                  parked;                /* some are, as far as we know */
    bool                  hungry, shedding;      /* in those lists */
    struct schedule_site *hungry_next, *shedding_next;
    size_t                n;
    char                  key[];
};

struct schedule {
    struct schedule_settings settings;
    const struct refusals   *refusals;
    struct map_str           by_key;             /* owned */
    struct map_u64           by_number;
    struct heap              ready, trial, quiet;
    struct schedule_site    *hungry, *shedding;
    uint64_t                 number;
    size_t                   count;
    size_t                   inside, on_trial;   /* begun; of these, while their sites were not proven */
    int64_t                  tick;               /* the last key of a ready site */
    uint64_t                 spread;
};

struct schedule *schedule_new(const struct schedule_settings *settings, const struct refusals *refusals)
{
    struct schedule *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->settings = *settings;
    s->refusals = refusals;
    map_str_init(&s->by_key);
    map_u64_init(&s->by_number);
    heap_init(&s->ready);
    heap_init(&s->trial);
    heap_init(&s->quiet);
    return s;
}

/* -- sites ------------------------------------------------------------------------------------------------------------------ */

static struct pace_settings settings_of(const struct schedule *s, const struct refusal_provider *p, bool fixed)
{
    struct pace_settings settings = s->settings.pace;

    if (fixed)
        return (struct pace_settings){ .connections_max = (uint32_t)s->settings.inside_max, .fixed = true };

    if (p != NULL && p->connections > 0)
        settings.connections_max = p->connections;
    if (p != NULL && p->rate_per_hour > 0)
        settings.rate_per_hour_max = p->rate_per_hour;
    return settings;
}

static void unlist(struct schedule_site **list, const struct schedule_site *site, size_t next)
{
    for (struct schedule_site **at = list; *at != NULL; at = (struct schedule_site **)(void *)((char *)*at + next)) {
        if (*at == site) {
            *at = *(struct schedule_site **)(void *)((char *)*at + next);
            return;
        }
    }
}

/* That it is in, or was in last. */
static struct heap *heap_of(struct schedule *s, int state)
{
    return state == SITE_QUIET ? &s->quiet : state == SITE_TRIAL ? &s->trial : &s->ready;
}

static void site_free(struct schedule *s, struct schedule_site *site)
{
    if (site->hungry)
        unlist(&s->hungry, site, offsetof(struct schedule_site, hungry_next));
    if (site->shedding)
        unlist(&s->shedding, site, offsetof(struct schedule_site, shedding_next));
    heap_remove(heap_of(s, site->state), &site->node);
    (void)map_str_remove(&s->by_key, (struct str){ site->key, site->n });
    (void)map_u64_remove(&s->by_number, site->number);
    turns_free(&site->turns);
    free(site);
}

void schedule_free(struct schedule *s)
{
    size_t cursor = 0;
    struct str key;
    void *value;

    if (s == NULL)
        return;
    while (map_str_next(&s->by_key, &cursor, &key, &value)) {
        struct schedule_site *site = value;
        struct turn *turn;
        assert(site->pace.inside == 0);
        while ((turn = turns_next(&site->turns)) != NULL)
            CONTAINER_OF(turn, struct schedule_item, turn)->site = NULL;
        site_free(s, site);
    }
    map_str_free(&s->by_key);
    map_u64_free(&s->by_number);
    heap_free(&s->ready);
    heap_free(&s->trial);
    heap_free(&s->quiet);
    free(s);
}

/* A place for one more, if need be by forgetting the one that would be forgotten next. */
static bool make_place(struct schedule *s)
{
    struct heap_node *top = heap_top(&s->quiet);

    if (s->by_key.used < s->settings.sites_max)
        return true;
    if (top == NULL)
        return false;
    site_free(s, CONTAINER_OF(top, struct schedule_site, node));
    return true;
}

static int add_site(struct schedule *s, struct str key, struct schedule_site *site)
{
    if (map_str_put(&s->by_key, key, site) < 0)
        return -ENOMEM;
    if (map_u64_put(&s->by_number, site->number, site) < 0) {
        (void)map_str_remove(&s->by_key, key);
        return -ENOMEM;
    }
    heap_node_init(&site->node);
    if (heap_push(&s->quiet, &site->node, PACE_NEVER) < 0) {
        (void)map_str_remove(&s->by_key, key);
        (void)map_u64_remove(&s->by_number, site->number);
        return -ENOMEM;
    }
    return 0;
}

static struct schedule_site *site_new(struct schedule *s, const struct schedule_offer *offer)
{
    struct pace_settings pace = settings_of(s, offer->provider, offer->fixed);
    struct schedule_site *site = calloc(1, sizeof *site + offer->site.n);

    if (site == NULL)
        return NULL;
    site->n = offer->site.n;
    memcpy(site->key, offer->site.p, site->n);
    site->number = ++s->number;
    site->provider = offer->provider;
    site->state = SITE_QUIET;
    pace_init(&site->pace, &pace);
    turns_init(&site->turns, s->settings.site_messages_max);
    if (add_site(s, (struct str){ site->key, site->n }, site) == 0)
        return site;
    turns_free(&site->turns);
    free(site);
    return NULL;
}

static int move(struct schedule *s, struct schedule_site *site, int state, int64_t key)
{
    heap_remove(heap_of(s, site->state), &site->node);
    site->state = SITE_FULL;
    if (state == SITE_FULL)
        return 0;
    int r = heap_push(heap_of(s, state), &site->node, key);
    if (r == 0)
        site->state = state;
    return r;
}

/* One more may begin there, for all that the others leave. */
static bool has_part(const struct schedule *s, const struct schedule_site *site)
{
    size_t left = s->inside < s->settings.inside_max ? s->settings.inside_max - s->inside : 0;
    return site->pace.inside == 0 || site->pace.fixed || site->pace.inside < left;
}

/* Where it belongs now. Without memory a site stays out of the heaps until the next that happens to it. */
static void put_site(struct schedule *s, struct schedule_site *site, int64_t now)
{
    int64_t when = pace_when(&site->pace, now);

    if (site->turns.count == 0 && site->pace.inside == 0) {
        (void)move(s, site, SITE_QUIET, pace_forget_ns(&site->pace, now));
    } else if (site->turns.count == 0 || when == PACE_NEVER || !has_part(s, site)) {
        (void)move(s, site, SITE_FULL, 0);
    } else {
        if (when <= now) {
            s->tick = s->tick < now ? now : s->tick + 1;
            when = s->tick;
        }
        (void)move(s, site, site->pace.proven ? SITE_READY : SITE_TRIAL, when);
    }
}

static bool is_dead(const struct schedule_site *site)
{
    return !site->pace.proven && site->pace.rest_ns > 0;
}

/* Until a dead site has answered again, one waits there. Else a part of what room there is: so some is left for the next site, however
 * many there are (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998). */
static size_t room_of(const struct schedule *s, const struct schedule_site *site)
{
    if (is_dead(site))
        return ROOM_DEAD;
    size_t left = s->count < s->settings.messages_max ? (s->settings.messages_max - s->count) / PART : 0;
    size_t most = s->settings.site_messages_max, part = left > FEW ? left : FEW;
    return part < most ? part : most;
}

static void tell_hunger(struct schedule *s, struct schedule_site *site)
{
    if (!site->parked || site->hungry || site->turns.count >= (room_of(s, site) + 1) / 2)
        return;
    site->hungry = true;
    site->hungry_next = s->hungry;
    s->hungry = site;
}

/* -- offers ----------------------------------------------------------------------------------------------------------------- */

uint32_t schedule_cost(uint64_t size)
{
    uint64_t cost = 1 + size / COST_BYTES;
    return cost < SCHEDULE_COST_MAX ? (uint32_t)cost : SCHEDULE_COST_MAX;
}

static struct schedule_parked park(struct schedule *s, struct schedule_item *item, struct schedule_site *site, int64_t now)
{
    int64_t spread = (int64_t)((s->spread += SPREAD) >> 44) * PARK_NS >> 20;

    if (site == NULL)
        return (struct schedule_parked){ item, 0, now + PARK_NO_SITE_NS + spread / 30, false };
    item->site = NULL;
    site->parked = true;
    tell_hunger(s, site);                                     /* a call that was lost is repeated */
    return (struct schedule_parked){ item, site->number, now + PARK_NS + spread, is_dead(site) };
}

static struct schedule_site *find_or_add(struct schedule *s, const struct schedule_offer *offer, int *error)
{
    struct schedule_site *site = map_str_get(&s->by_key, offer->site);

    *error = 0;
    if (site != NULL || !make_place(s))
        return site;
    site = site_new(s, offer);
    *error = site == NULL ? -ENOMEM : 0;
    return site;
}

int schedule_offer(struct schedule *s, const struct schedule_offer *offer, struct schedule_item *item, int64_t now_ns,
                   struct schedule_parked *out)
{
    struct turn *displaced;
    int r;
    struct schedule_site *site = find_or_add(s, offer, &r);

    assert(item->site == NULL);
    if (r < 0)
        return r;
    if (site != NULL)
        site->turns.room = room_of(s, site);
    r = -EBUSY;
    if (site != NULL && !offer->behind)
        r = turns_add(&site->turns, &item->turn, offer->band, offer->sender, offer->cost, &displaced);
    if (r == -EBUSY) {
        *out = park(s, item, site, now_ns);
        return 0;
    }
    if (r < 0)
        return r;
    item->site = site;
    *out = (struct schedule_parked){ 0 };
    if (displaced != NULL)
        *out = park(s, CONTAINER_OF(displaced, struct schedule_item, turn), site, now_ns);
    else
        s->count++;
    if (site->state != SITE_READY && site->state != SITE_TRIAL)
        put_site(s, site, now_ns);
    return 0;
}

void schedule_remove(struct schedule *s, struct schedule_item *item, int64_t now_ns)
{
    struct schedule_site *site = item->site;

    if (site == NULL || item->turn.flow == NULL)
        return;
    turns_remove(&site->turns, &item->turn);
    item->site = NULL;
    s->count--;
    tell_hunger(s, site);
    put_site(s, site, now_ns);
}

/* -- what is next ----------------------------------------------------------------------------------------------------------- */

static void forget_old(struct schedule *s, int64_t now)
{
    struct heap_node *top = heap_top(&s->quiet);

    if (top != NULL && top->key <= now)
        site_free(s, CONTAINER_OF(top, struct schedule_site, node));
}

static struct schedule_item *begin(struct schedule *s, struct schedule_site *site, int64_t now)
{
    struct turn *turn = turns_next(&site->turns);

    assert(turn != NULL);
    struct schedule_item *item = CONTAINER_OF(turn, struct schedule_item, turn);
    item->on_trial = !site->pace.proven;
    s->inside++;
    s->on_trial += item->on_trial;
    pace_begin(&site->pace, now);
    item->began_ns = now;
    s->count--;
    tell_hunger(s, site);
    put_site(s, site, now);
    return item;
}

static struct heap_node *sooner(struct heap_node *a, struct heap_node *b)
{
    return a == NULL || (b != NULL && b->key < a->key) ? b : a;
}

/* The site whose turn it is; the turn of those that are not proven comes when there is room for one more of them. */
static struct heap_node *top_of(const struct schedule *s)
{
    if (s->inside >= s->settings.inside_max)
        return NULL;
    struct heap_node *trial = s->on_trial < (s->settings.inside_max + 1) / 2 ? heap_top(&s->trial) : NULL;
    return sooner(heap_top(&s->ready), trial);
}

struct schedule_item *schedule_next(struct schedule *s, int64_t now_ns, int64_t *out_ask_again_ns)
{
    struct heap_node *top;

    forget_old(s, now_ns);
    while ((top = top_of(s)) != NULL && (top->key <= now_ns || top->key <= s->tick)) {
        struct schedule_site *site = CONTAINER_OF(top, struct schedule_site, node);
        if (pace_when(&site->pace, now_ns) <= now_ns && has_part(s, site))
            return begin(s, site, now_ns);
        put_site(s, site, now_ns);                            /* a refusal came since: later, or when one comes back */
    }
    *out_ask_again_ns = top == NULL ? PACE_NEVER : top->key;
    return NULL;
}

/* -- what came of it -------------------------------------------------------------------------------------------------------- */

static enum pace_event event_of(enum refusal kind)
{
    switch (kind) {
    case REFUSAL_MESSAGE: case REFUSAL_GREYLIST: return PACE_TAKEN;
    case REFUSAL_CONNECTIONS: return PACE_TOO_MANY;
    case REFUSAL_RATE:        return PACE_TOO_FAST;
    case REFUSAL_BLOCKED:     return PACE_BLOCKED;
    case REFUSAL_FAMILY:      return PACE_FAMILY;
    case REFUSAL_DOWN:        return PACE_UNREACHED;
    }
    assert(!"a refusal without an event");
    return PACE_NOTHING;
}

static void shed_if_dead(struct schedule *s, struct schedule_site *site)
{
    if (site->shedding || !is_dead(site) || site->turns.count <= ROOM_DEAD)
        return;
    site->shedding = true;
    site->shedding_next = s->shedding;
    s->shedding = site;
}

static void end(struct schedule *s, struct schedule_item *item, enum pace_event event, int64_t wait, int64_t now)
{
    struct schedule_site *site = item->site;

    assert(site != NULL && item->turn.flow == NULL);
    pace_end(&site->pace, event, wait, item->began_ns, now);
    s->inside--;
    s->on_trial -= item->on_trial;
    item->site = NULL;
    shed_if_dead(s, site);
    tell_hunger(s, site);
    put_site(s, site, now);
}

int64_t schedule_end(struct schedule *s, struct schedule_item *item, const struct schedule_result *result, int64_t now_ns)
{
    const struct schedule_site *site = item->site;
    struct refusal_reply reply = { result->code, result->status, result->text, site->provider };

    switch (result->kind) {
    case SCHEDULE_TAKEN:     end(s, item, PACE_TAKEN, 0, now_ns); return 0;
    case SCHEDULE_NOT_TRIED: end(s, item, PACE_NOTHING, 0, now_ns); return 0;
    case SCHEDULE_UNREACHED: end(s, item, PACE_UNREACHED, 0, now_ns); break;
    case SCHEDULE_REFUSED: {
        struct refusal_verdict v = refusal_judge(s->refusals, &reply);
        end(s, item, event_of(v.kind), v.kind == REFUSAL_GREYLIST || v.kind == REFUSAL_MESSAGE ? 0 : v.wait_ns, now_ns);
        if (v.wait_ns > 0)
            return now_ns + v.wait_ns;
        break;
    }
    }
    return 0;
}

bool schedule_shed(struct schedule *s, int64_t now_ns, struct schedule_parked *out)
{
    while (s->shedding != NULL) {
        struct schedule_site *site = s->shedding;
        struct turn *turn = is_dead(site) && site->turns.count > ROOM_DEAD ? turns_next(&site->turns) : NULL;
        if (turn != NULL) {
            s->count--;
            *out = park(s, CONTAINER_OF(turn, struct schedule_item, turn), site, now_ns);
            return true;
        }
        s->shedding = site->shedding_next;
        site->shedding = false;
        put_site(s, site, now_ns);
    }
    return false;
}

bool schedule_calls(struct schedule *s, struct schedule_call *out)
{
    while (s->hungry != NULL) {
        struct schedule_site *site = s->hungry;
        size_t room = room_of(s, site);
        s->hungry = site->hungry_next;
        site->hungry = false;
        if (!site->parked || site->turns.count >= room)
            continue;
        *out = (struct schedule_call){ site->number, room - site->turns.count };
        site->parked = false;
        return true;
    }
    return false;
}

void schedule_answered(struct schedule *s, uint64_t number, bool more)
{
    struct schedule_site *site = map_u64_get(&s->by_number, number);

    if (site == NULL)
        return;
    site->parked |= more;
    tell_hunger(s, site);
}

void schedule_urge(struct schedule *s, struct str key, int64_t now_ns)
{
    struct schedule_site *site = map_str_get(&s->by_key, key);

    if (site == NULL || !is_dead(site) || site->pace.inside > 0 || (site->urged_ns != 0 && now_ns < site->urged_ns + URGED_EVERY_NS))
        return;
    site->urged_ns = now_ns;
    site->pace.rest_until_ns = now_ns;
    put_site(s, site, now_ns);
}

void schedule_configure(struct schedule *s, const struct schedule_settings *settings, const struct refusals *refusals)
{
    size_t cursor = 0;
    struct str key;
    void *value;

    s->settings = *settings;
    s->refusals = refusals;
    while (map_str_next(&s->by_key, &cursor, &key, &value)) {
        struct schedule_site *site = value;
        site->provider = site->provider == NULL ? NULL : refusal_provider_named(refusals, site->provider->name);
        struct pace_settings pace = settings_of(s, site->provider, site->pace.fixed);
        pace_configure(&site->pace, &pace);
    }
}

uint64_t schedule_number(const struct schedule *s, struct str key)
{
    const struct schedule_site *site = map_str_get(&s->by_key, key);
    return site == NULL ? 0 : site->number;
}

bool schedule_knows(const struct schedule *s, uint64_t number) { return map_u64_get(&s->by_number, number) != NULL; }

bool schedule_is_dead(const struct schedule *s, uint64_t number)
{
    const struct schedule_site *site = map_u64_get(&s->by_number, number);
    return site != NULL && is_dead(site);
}

struct str schedule_key_of(const struct schedule *s, uint64_t number)
{
    const struct schedule_site *site = map_u64_get(&s->by_number, number);
    return site == NULL ? (struct str){ 0 } : (struct str){ site->key, site->n };
}

struct str schedule_key(const struct schedule_item *item) { return (struct str){ item->site->key, item->site->n }; }

size_t schedule_inside(const struct schedule *s) { return s->inside; }

size_t schedule_sites(const struct schedule *s) { return s->by_key.used; }
size_t schedule_count(const struct schedule *s) { return s->count; }

const struct pace *schedule_pace(const struct schedule *s, struct str key)
{
    const struct schedule_site *site = map_str_get(&s->by_key, key);
    return site == NULL ? NULL : &site->pace;
}

bool schedule_each(const struct schedule *s, size_t *cursor, struct schedule_view *out)
{
    struct str key;
    void *value;

    if (!map_str_next(&s->by_key, cursor, &key, &value))
        return false;
    const struct schedule_site *site = value;
    *out = (struct schedule_view){ key, site->number, &site->pace, site->turns.count, is_dead(site), site->parked };
    return true;
}
