/*
 * Deliveries: each message that is due is taken apart by route, its parts stand in line, and each is tried when its turn comes.
 */
#ifndef OUTBOUND_DELIVER_H
#define OUTBOUND_DELIVER_H

#include "outbound/destination.h"
#include "outbound/line.h"
#include "outbound/local.h"
#include "outbound/site.h"
#include "outbound/steady_date.h"
#include "queue/queue.h"

struct attempt;

/* All on outbound's loop. */
struct deliver_context {
    struct queue          *queue;
    struct sites          *sites;
    struct local          *local;
    struct client_tls     *tls;          /* NULL: connections stay plain */
    struct line           *line;
    struct destinations    destinations;
    const struct refusals *refusals;
    struct map_u64         attempts;     /* by the message's id */
    struct attempt        *idle_first, *idle_last;   /* those that hold their claims and wait for a turn, the oldest first */
    size_t                 idle_count;
    struct steady_date     date;
    struct task_group      tasks;
    struct task           *timer;        /* woken when ask_ns gets nearer */
    int64_t                ask_ns;       /* monotonic: when a turn may come by itself */
    bool                   stopping;     /* nobody's turn comes any more */
};

/* A message that is due, with its claim, which is taken over. Every outcome is recorded, what failed for good is bounced. Does not wait. */
void deliver_due(struct deliver_context *context, struct claim *c);

/* Whoever may be tried now begins. */
void deliver_pump(struct deliver_context *context);

/* Claims that have waited for a turn so long are given back to the queue, where operators can get at them: they are fetched at their turn.
 * 0: all. Gives the number left. */
size_t deliver_give_back(struct deliver_context *context, int64_t waited_ns);

/* One line about what became of a recipient; dsn_id is 0 when nobody was told. */
void deliver_log(const struct claim *c, const struct outcome *o, uint64_t dsn_id);

#endif
