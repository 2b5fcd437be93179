/*
 * Turns: who is next of those that wait for one site. Pure.
 *
 * Senders take turns by deficit round robin (Shreedhar and Varghese, "Efficient fair queueing using deficit round robin", 1995): each turn
 * gives a sender the same quantum of cost, whatever its messages are like. A sender that had nothing waiting begins ahead of those that
 * always have (RFC 8290, 4.2), once and for one quantum, so a password reset does not stand behind a newsletter. Within a sender the
 * order is that of coming.
 *
 * There are three bands of priority. The higher goes first, but one choice in TURNS_LOWER goes to the lower ones, so nothing starves.
 *
 * Room is limited. When it is full, a message of whoever has less waiting takes the place of the newest of whoever has most (longest queue
 * drop): no flood keeps others out. What was put out stays in the queue's index; it was never ours alone.
 */
#ifndef OUTBOUND_TURNS_H
#define OUTBOUND_TURNS_H

#include "base/heap.h"
#include "base/map.h"

#define TURNS_BANDS      3
#define TURNS_LOWER      8
#define TURNS_SENDER_MAX 320                     /* a longer name is cut */

enum turns_band { TURNS_URGENT, TURNS_NORMAL, TURNS_BULK };

/* A place in the line; in the caller's own structure, which outlives it. */
struct turn {
    struct turn      *prev, *next;
    struct turns_flow *flow;                     /* NULL: not in line */
    uint32_t          cost;                      /* at least 1 */
};

struct turns_list {
    struct turns_flow *first, *last;
};

struct turns {
    struct map_str    flows;                     /* of band and sender; owned */
    struct heap       by_length;                 /* the longest on top */
    struct {
        struct turns_list fresh, old;
    } bands[TURNS_BANDS];
    size_t            count, room;
    unsigned          choice;
};

void turns_init(struct turns *t, size_t room);
void turns_free(struct turns *t);                /* nobody may be in line */

/* -EBUSY: no room, and nobody has more waiting; -ENOMEM. *out_displaced: who had to leave the line for it, or NULL. */
int  turns_add(struct turns *t, struct turn *turn, enum turns_band band, struct str sender, uint32_t cost, struct turn **out_displaced);
struct turn *turns_next(struct turns *t);        /* leaves the line; NULL: nobody is in it */
void turns_remove(struct turns *t, struct turn *turn);    /* nothing if it is not in line */

#endif
