/*
 * Delivery status notifications to the sender (RFC 3464), entered into the queue like any mail: of failures, and of delays, deliveries and
 * the end of their tracks for those who asked (RFC 3461).
 */
#ifndef OUTBOUND_DSN_H
#define OUTBOUND_DSN_H

#include "conf/conf.h"
#include "outbound/outcome.h"
#include "queue/queue.h"

#define DSN_RCPTS 1000               /* that one DSN tells of; more would make it larger than senders take */

/* What one of them tells of: an attempt and its outcomes. */
struct dsn {
    const struct conf *conf;
    struct claim      *claim;
    struct outcome    *outcomes;
    size_t             count;
    bool               tell_delay;       /* of those pending */
    bool               tell_late;        /* likewise, because the sender's own time is over (RFC 2852) */
    int64_t            now_wall_ns;
};

/* True if a recipient is pending whose delay the sender wants to hear of (NOTIFY=DELAY). */
bool dsn_wants_delay(const struct dsn *d);

/* True if a recipient is pending and the sender wants to hear that his own time is over: unless NOTIFY=NEVER (RFC 2852, 4.1.3). */
bool dsn_wants_late(const struct dsn *d);

/* Puts one DSN about all outcomes that are to be told in the queue, durably; where nothing is, none. A failure that nobody is told of
 * (null sender: never a bounce for a bounce, RFC 5321, 6.1; NOTIFY without FAILURE, RFC 3461, 4.1) becomes RCPT_FAILED.
 * 0 with *out_id (0: none was owed), or a negative errno: it could not be kept, and failures must not be settled as bounced. Awaits. */
int dsn_send(struct dsn *d, uint64_t *out_id);

/* The text alone, for tests. original is the beginning of the message, header and perhaps more; .p is NULL if it cannot be read. */
void dsn_put(struct buf *out, const struct dsn *d, struct str original, uint64_t id);

#endif
