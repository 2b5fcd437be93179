/*
 * Bounces: delivery status notifications to the sender (RFC 3464), entered into the queue like any mail.
 */
#ifndef OUTBOUND_BOUNCE_H
#define OUTBOUND_BOUNCE_H

#include "conf/conf.h"
#include "outbound/outcome.h"
#include "queue/queue.h"

/* For every outcome that is RCPT_BOUNCED: puts one DSN about all of them in the queue, durably, or makes it RCPT_FAILED where none is owed
 * (null sender: never a bounce for a bounce, RFC 5321, 6.1; NOTIFY without FAILURE, RFC 3461, 4.1). 0, or a negative errno: the DSN could
 * not be kept, and these outcomes must not be settled as bounced. Awaits. */
int bounce_send(const struct conf *conf, struct claim *c, struct outcome *outcomes, size_t count, uint64_t *out_id);

/* The text of the DSN alone, for tests. original is the beginning of the message, header and perhaps more; .p is
 * NULL if it cannot be read. */
void bounce_put(struct buf *out, const struct conf *conf, const struct claim *c, const struct outcome *outcomes, size_t count,
                struct str original, uint64_t id, int64_t now_wall_ns);

#endif
