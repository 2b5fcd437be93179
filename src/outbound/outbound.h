/*
 * Delivery: takes what is due from the queue and brings it to mailboxes and other servers.
 *
 * All of outbound/ runs on the loop that called outbound_start, in the worker; so its structures need no locks.
 */
#ifndef OUTBOUND_OUTBOUND_H
#define OUTBOUND_OUTBOUND_H

#include "queue/queue.h"
#include "run/task.h"
#include <stdbool.h>

struct outbound;

/* Starts the scheduler. Settings are those of conf_current() at each delivery's start. -ENOMEM, -EAGAIN. */
int outbound_start(struct queue *q, struct outbound **out);

/* No new delivery begins; those under way may finish until the deadline, then they are cancelled (their messages stay in the queue).
 * Awaits the end of all, then frees. */
void outbound_stop(struct outbound *o, int64_t deadline_ns);

/* What is known of a site now: to be shown. */
struct outbound_site {
    char     site[400];                  /* its key, cut */
    enum { OUTBOUND_SITE_WELL, OUTBOUND_SITE_NEW, OUTBOUND_SITE_DEAD, OUTBOUND_SITE_RESTS } state;
    uint32_t inside, inside_max;         /* deliveries under way; that it may have */
    uint32_t per_hour;                   /* that it is given; 0: as fast as it goes */
    uint64_t waiting;
    bool     parked;                     /* more wait, for room in the line */
    bool     ipv4;                       /* our IPv6 address is not liked there */
    int64_t  rests_ns;                   /* so long from now; 0: it does not */
    char     words[300];                 /* its last, where it deferred something; "" */
};

/* On the loop of outbound, whichever started last. One after another from *cursor = 0; nothing may be awaited in between. False: no more. */
bool outbound_each_site(size_t *cursor, struct outbound_site *out);

#endif
