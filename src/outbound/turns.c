/*
 * Turns; see turns.h. Every operation is O(log n) of the senders or better. Pure.
 */
#include "outbound/turns.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define QUANTUM 16                               /* a message of half a megabyte (see schedule.c), or as many small ones */

struct turns_flow {
    struct turns_flow *prev, *next;              /* in the list */
    struct turns_list *list;
    struct turn       *first, *last;
    struct heap_node   node;                     /* key: minus the count */
    int64_t            deficit;
    uint8_t            band;
    size_t             n;
    char               name[];                   /* the band, and the sender */
};

static void list_push(struct turns_list *l, struct turns_flow *f)
{
    f->prev = l->last;
    f->next = NULL;
    f->list = l;
    *(l->last == NULL ? &l->first : &l->last->next) = f;
    l->last = f;
}

static void list_remove(struct turns_flow *f)
{
    struct turns_list *l = f->list;

    *(f->prev == NULL ? &l->first : &f->prev->next) = f->next;
    *(f->next == NULL ? &l->last : &f->next->prev) = f->prev;
    f->prev = f->next = NULL;
    f->list = NULL;
}

void turns_init(struct turns *t, size_t room)
{
    *t = (struct turns){ .room = room };
    map_str_init(&t->flows);
    heap_init(&t->by_length);
}

static void flow_free(struct turns *t, struct turns_flow *f)
{
    assert(f->first == NULL);
    list_remove(f);
    heap_remove(&t->by_length, &f->node);
    (void)map_str_remove(&t->flows, (struct str){ f->name, f->n });
    free(f);
}

void turns_free(struct turns *t)
{
    size_t cursor = 0;
    struct str name;
    void *value;

    assert(t->count == 0);
    while (map_str_next(&t->flows, &cursor, &name, &value))
        flow_free(t, value);
    map_str_free(&t->flows);
    heap_free(&t->by_length);
}

/* -- flows ------------------------------------------------------------------------------------------------------------------ */

static struct turns_flow *flow_new(struct turns *t, enum turns_band band, struct str name)
{
    struct turns_flow *f = calloc(1, sizeof *f + name.n);

    if (f == NULL)
        return NULL;
    f->band = (uint8_t)band;
    f->n = name.n;
    memcpy(f->name, name.p, name.n);
    heap_node_init(&f->node);
    if (heap_push(&t->by_length, &f->node, 0) < 0) {
        free(f);
        return NULL;
    }
    if (map_str_put(&t->flows, (struct str){ f->name, f->n }, f) < 0) {
        heap_remove(&t->by_length, &f->node);
        free(f);
        return NULL;
    }
    f->deficit = QUANTUM;
    list_push(&t->bands[band].fresh, f);
    return f;
}

static struct turns_flow *flow_of(struct turns *t, enum turns_band band, struct str sender)
{
    char bytes[TURNS_SENDER_MAX + 1];
    struct str name = { bytes, 1 };

    sender = str_head(sender, TURNS_SENDER_MAX);
    bytes[0] = (char)('0' + band);
    if (sender.n > 0)
        memcpy(bytes + 1, sender.p, sender.n);
    name.n += sender.n;
    struct turns_flow *f = map_str_get(&t->flows, name);
    return f != NULL ? f : flow_new(t, band, name);
}

static int64_t length_of(const struct turns_flow *f)
{
    return -f->node.key;
}

static void append(struct turns *t, struct turns_flow *f, struct turn *turn)
{
    turn->flow = f;
    turn->next = NULL;
    turn->prev = f->last;
    *(f->last == NULL ? &f->first : &f->last->next) = turn;
    f->last = turn;
    heap_change(&t->by_length, &f->node, f->node.key - 1);
    t->count++;
}

void turns_remove(struct turns *t, struct turn *turn)
{
    struct turns_flow *f = turn->flow;

    if (f == NULL)
        return;
    *(turn->prev == NULL ? &f->first : &turn->prev->next) = turn->next;
    *(turn->next == NULL ? &f->last : &turn->next->prev) = turn->prev;
    turn->prev = turn->next = NULL;
    turn->flow = NULL;
    heap_change(&t->by_length, &f->node, f->node.key + 1);
    t->count--;
}

/* The newest of the longest line, if that is longer than f's even with one more in it; and any line of a lower band, as long as that
 * one. */
static struct turn *find_displaced(const struct turns *t, const struct turns_flow *f)
{
    const struct turns_flow *longest = CONTAINER_OF(heap_top(&t->by_length), struct turns_flow, node);
    int64_t more = length_of(longest) - length_of(f);

    if (more > 1 || (more == 1 && longest->band > f->band))
        return longest->last;
    return NULL;
}

int turns_add(struct turns *t, struct turn *turn, enum turns_band band, struct str sender, uint32_t cost, struct turn **out_displaced)
{
    struct turns_flow *f = flow_of(t, band, sender);
    struct turn *displaced = NULL;

    assert(turn->flow == NULL && cost > 0);
    if (f == NULL)
        return -ENOMEM;
    if (t->count >= t->room) {
        displaced = find_displaced(t, f);
        if (displaced == NULL) {
            if (f->first == NULL)
                flow_free(t, f);
            return -EBUSY;
        }
        turns_remove(t, displaced);                           /* its flow has more, or is found empty at its turn */
    }
    turn->cost = cost;
    append(t, f, turn);
    *out_displaced = displaced;
    return 0;
}

/* -- choosing --------------------------------------------------------------------------------------------------------------- */

static void move_to_old(struct turns *t, struct turns_flow *f)
{
    list_remove(f);
    list_push(&t->bands[f->band].old, f);
}

/* RFC 8290, 4.2: who was ahead as a newcomer and has nothing left waits its turn as all others before it is forgotten: to come again
 * and again does not pay. */
static void end_empty(struct turns *t, struct turns_flow *f)
{
    if (f->list == &t->bands[f->band].fresh && t->bands[f->band].old.first != NULL)
        move_to_old(t, f);
    else
        flow_free(t, f);
}

static struct turns_flow *choose_flow(struct turns *t, unsigned band)
{
    for (;;) {
        struct turns_list *fresh = &t->bands[band].fresh, *old = &t->bands[band].old;
        struct turns_flow *f = fresh->first != NULL ? fresh->first : old->first;
        if (f == NULL)
            return NULL;
        if (f->first == NULL) {
            end_empty(t, f);
        } else if (f->deficit < (int64_t)f->first->cost) {
            f->deficit += QUANTUM;
            move_to_old(t, f);
        } else {
            return f;
        }
    }
}

struct turn *turns_next(struct turns *t)
{
    bool lower_first = ++t->choice % TURNS_LOWER == 0;

    for (unsigned i = 0; i < TURNS_BANDS && t->count > 0; i++) {
        /* Its turn has each of the lower ones in turn. */
        unsigned band = !lower_first ? i : (i + 1 + t->choice / TURNS_LOWER % (TURNS_BANDS - 1)) % TURNS_BANDS;
        struct turns_flow *f = choose_flow(t, band);
        if (f == NULL)
            continue;
        struct turn *turn = f->first;
        f->deficit -= turn->cost;
        turns_remove(t, turn);
        return turn;
    }
    return NULL;
}
