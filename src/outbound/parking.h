/*
 * Parking: the parts of messages that no room was for in the schedule, by site, and there by sender. When a site calls, senders take turns
 * here too: else whoever has parked a hundred thousand would be called alone for as long as these last. Pure.
 *
 * One costs 18 bytes here, for there may be as many as the queue has. Nobody is taken out but in turn: whoever takes looks whether the
 * message is still there. A sender costs some hundred bytes, and 2 KiB once it has a few, for as long as one of its messages is parked.
 */
#ifndef OUTBOUND_PARKING_H
#define OUTBOUND_PARKING_H

#include "base/map.h"

/* A part of a message: all that is needed to offer it again. */
struct parked {
    uint64_t id, route;
    uint8_t  band, cost;
};

struct parking {
    struct map_u64 sites;                        /* of struct parking_site, owned */
};

void parking_init(struct parking *p);
void parking_free(struct parking *p);
int  parking_add(struct parking *p, uint64_t site, uint64_t sender, const struct parked *who);      /* the sender by its hash. -ENOMEM */
bool parking_take(struct parking *p, uint64_t site, struct parked *out, uint64_t *out_sender);      /* of the sender whose turn it is, the first */
bool parking_has(const struct parking *p, uint64_t site);
bool parking_has_sender(const struct parking *p, uint64_t site, uint64_t sender);
void parking_forget(struct parking *p, uint64_t site);        /* all of them */

#endif
