/*
 * Parking; see parking.h. A ring of flows for each site, the one whose turn it is first; each flow a list in order of coming. Pure.
 */
#include "outbound/parking.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct parking_flow {
    struct parking_flow *prev, *next;            /* in the ring */
    struct parking_site *site;
    struct parking_node *first, *last;
    uint64_t             sender;
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

void parking_free(struct parking *p)
{
    assert(p->sites.used == 0);
    map_u64_free(&p->sites);
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

int parking_add(struct parking *p, struct parking_node *node, uint64_t site, uint64_t sender)
{
    struct parking_site *s = site_of(p, site);

    assert(node->flow == NULL);
    if (s == NULL)
        return -ENOMEM;
    struct parking_flow *f = flow_of(s, sender);
    if (f == NULL) {
        forget_if_empty(p, s);
        return -ENOMEM;
    }
    node->flow = f;
    node->next = NULL;
    node->prev = f->last;
    *(f->last == NULL ? &f->first : &f->last->next) = node;
    f->last = node;
    return 0;
}

static void flow_free(struct parking *p, struct parking_flow *f)
{
    struct parking_site *s = f->site;

    if (s->turn == f)
        s->turn = f->next == f ? NULL : f->next;
    f->prev->next = f->next;
    f->next->prev = f->prev;
    (void)map_u64_remove(&s->flows, f->sender);
    free(f);
    forget_if_empty(p, s);
}

void parking_remove(struct parking *p, struct parking_node *node)
{
    struct parking_flow *f = node->flow;

    if (f == NULL)
        return;
    *(node->prev == NULL ? &f->first : &node->prev->next) = node->next;
    *(node->next == NULL ? &f->last : &node->next->prev) = node->prev;
    *node = (struct parking_node){ 0 };
    if (f->first == NULL)
        flow_free(p, f);
}

struct parking_node *parking_take(struct parking *p, uint64_t site)
{
    struct parking_site *s = map_u64_get(&p->sites, site);

    if (s == NULL)
        return NULL;
    struct parking_node *node = s->turn->first;
    s->turn = s->turn->next;
    parking_remove(p, node);
    return node;
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
