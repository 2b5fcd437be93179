/*
 * Parking; see parking.h. A ring of flows for each site, the one whose turn it is first; each flow a list of chunks in order of coming.
 * Pure.
 */
#include "outbound/parking.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define CHUNK_FIRST 6
#define CHUNK_MOST  100

struct parking_chunk {
    struct parking_chunk *next;
    uint16_t              first, used, room;     /* taken up to the first; used up to `used` */
    struct parked_small {
        uint64_t id, route;
    } ids[];                                     /* room of them, then as many bytes of the cost, with the band */
};

struct parking_flow {
    struct parking_flow  *prev, *next;           /* in the ring */
    struct parking_site  *site;
    struct parking_chunk *first, *last;          /* owned */
    uint64_t              sender;
};

struct parking_site {
    struct parking_flow *turn;                   /* NULL: nobody is parked */
    struct map_u64       flows;                  /* owned */
    uint64_t             number;
};

void parking_init(struct parking *p)
{
    map_u64_init(&p->sites);
}

static void forget_if_empty(struct parking *p, struct parking_site *s)
{
    if (s->turn != NULL)
        return;
    (void)map_u64_remove(&p->sites, s->number);
    map_u64_free(&s->flows);
    free(s);
}

static struct parking_site *site_of(struct parking *p, uint64_t number)
{
    struct parking_site *s = map_u64_get(&p->sites, number);

    if (s != NULL)
        return s;
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->number = number;
    map_u64_init(&s->flows);
    if (map_u64_put(&p->sites, number, s) == 0)
        return s;
    free(s);
    return NULL;
}

/* Behind all others: its turn comes when they have had theirs. */
static void enter_ring(struct parking_site *s, struct parking_flow *f)
{
    if (s->turn == NULL) {
        s->turn = f->prev = f->next = f;
        return;
    }
    f->next = s->turn;
    f->prev = s->turn->prev;
    f->prev->next = f->next->prev = f;
}

static struct parking_flow *flow_of(struct parking_site *s, uint64_t sender)
{
    struct parking_flow *f = map_u64_get(&s->flows, sender);

    if (f != NULL)
        return f;
    f = calloc(1, sizeof *f);
    if (f == NULL)
        return NULL;
    f->sender = sender;
    f->site = s;
    if (map_u64_put(&s->flows, sender, f) < 0) {
        free(f);
        return NULL;
    }
    enter_ring(s, f);
    return f;
}

/* -- one flow --------------------------------------------------------------------------------------------------------------- */

static uint8_t *bytes_of(struct parking_chunk *c) { return (uint8_t *)&c->ids[c->room]; }

static struct parking_chunk *room_in(struct parking_flow *f)
{
    struct parking_chunk *last = f->last;

    if (last != NULL && last->used < last->room)
        return last;
    uint16_t room = last == NULL ? CHUNK_FIRST : CHUNK_MOST;
    struct parking_chunk *c = malloc(sizeof *c + room * (sizeof c->ids[0] + 1));
    if (c == NULL)
        return NULL;
    *c = (struct parking_chunk){ .room = room };
    *(last == NULL ? &f->first : &last->next) = c;
    f->last = c;
    return c;
}

static void flow_free(struct parking *p, struct parking_flow *f)
{
    struct parking_site *s = f->site;

    for (struct parking_chunk *c = f->first, *next; c != NULL; c = next) {
        next = c->next;
        free(c);
    }
    if (s->turn == f)
        s->turn = f->next == f ? NULL : f->next;
    f->prev->next = f->next;
    f->next->prev = f->prev;
    (void)map_u64_remove(&s->flows, f->sender);
    free(f);
    forget_if_empty(p, s);
}

int parking_add(struct parking *p, uint64_t site, uint64_t sender, const struct parked *who)
{
    struct parking_site *s = site_of(p, site);

    if (s == NULL)
        return -ENOMEM;
    struct parking_flow *f = flow_of(s, sender);
    if (f == NULL) {
        forget_if_empty(p, s);
        return -ENOMEM;
    }
    struct parking_chunk *c = room_in(f);
    if (c == NULL) {
        if (f->first == NULL)
            flow_free(p, f);
        return -ENOMEM;
    }
    assert(who->cost >= 1 && who->cost <= 64 && who->band < 4);
    c->ids[c->used] = (struct parked_small){ who->id, who->route };
    bytes_of(c)[c->used++] = (uint8_t)((who->cost - 1) | who->band << 6);
    return 0;
}

bool parking_take(struct parking *p, uint64_t site, struct parked *out, uint64_t *out_sender)
{
    struct parking_site *s = map_u64_get(&p->sites, site);

    if (s == NULL)
        return false;
    struct parking_flow *f = s->turn;
    struct parking_chunk *c = f->first;
    uint8_t byte = bytes_of(c)[c->first];
    *out = (struct parked){ c->ids[c->first].id, c->ids[c->first].route, byte >> 6, (uint8_t)((byte & 63) + 1) };
    *out_sender = f->sender;
    s->turn = f->next;
    if (++c->first < c->used)
        return true;
    f->first = c->next;
    if (c == f->last)
        f->last = NULL;
    free(c);
    if (f->first == NULL)
        flow_free(p, f);
    return true;
}

void parking_forget(struct parking *p, uint64_t site)
{
    struct parking_site *s;

    while ((s = map_u64_get(&p->sites, site)) != NULL)
        flow_free(p, s->turn);                                /* the last takes the site with it */
}

void parking_free(struct parking *p)
{
    size_t cursor = 0;
    uint64_t site;
    void *value;

    while (map_u64_next(&p->sites, &cursor, &site, &value))
        parking_forget(p, site);
    map_u64_free(&p->sites);
}

bool parking_has(const struct parking *p, uint64_t site)
{
    return map_u64_get(&p->sites, site) != NULL;
}

bool parking_has_sender(const struct parking *p, uint64_t site, uint64_t sender)
{
    const struct parking_site *s = map_u64_get(&p->sites, site);
    return s != NULL && map_u64_get(&s->flows, sender) != NULL;
}
