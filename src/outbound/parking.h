/*
 * Parking: the messages that no room was for in the schedule, by site, and there by sender. When a site calls, senders take turns here too:
 * else whoever has parked a hundred thousand would be called alone for as long as these last. Pure.
 *
 * A node stands in the entry of the queue's index; a flow costs some hundred bytes for as long as one of its messages is parked.
 */
#ifndef OUTBOUND_PARKING_H
#define OUTBOUND_PARKING_H

#include "base/map.h"

struct parking_node {
    struct parking_node *prev, *next;
    struct parking_flow *flow;                   /* NULL: not parked */
};

struct parking {
    struct map_u64 sites;                        /* of struct parking_site, owned */
};

void parking_init(struct parking *p);
void parking_free(struct parking *p);            /* nobody may be parked */
/* The sender by a number: a hash will do. -ENOMEM. */
int  parking_add(struct parking *p, struct parking_node *node, uint64_t site, uint64_t sender);
void parking_remove(struct parking *p, struct parking_node *node);            /* nothing if it is not parked */
struct parking_node *parking_take(struct parking *p, uint64_t site);          /* of the sender whose turn it is, the first; NULL */
bool parking_has(const struct parking *p, uint64_t site);
bool parking_has_sender(const struct parking *p, uint64_t site, uint64_t sender);

#endif
