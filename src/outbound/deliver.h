/*
 * One attempt to deliver one message to all its pending recipients.
 */
#ifndef OUTBOUND_DELIVER_H
#define OUTBOUND_DELIVER_H

#include "outbound/local.h"
#include "outbound/site.h"
#include "outbound/steady_date.h"
#include "queue/queue.h"

struct deliver_context {
    struct sites *sites;
    struct local *local;
    struct client_tls *tls;              /* NULL: connections stay plain */
    struct steady_date date;
};

/* Tries, bounces what failed for good, records every outcome, gives the claim back. Awaits; on cancellation what is known is still
 * recorded and the rest stays in the queue. */
void deliver_message(struct deliver_context *context, struct claim *c);

/* One line about what became of a recipient; dsn_id is 0 when nobody was told. */
void deliver_log(const struct claim *c, const struct outcome *o, uint64_t dsn_id);

#endif
