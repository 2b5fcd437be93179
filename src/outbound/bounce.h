/*
 * A message that an operator returns to its sender.
 */
#ifndef OUTBOUND_BOUNCE_H
#define OUTBOUND_BOUNCE_H

#include "queue/queue.h"

#define BOUNCE_REASON_MAX 512

/* Ends all pending recipients as bounced, with the operator's words in the DSN (or as failed, where none is owed). Awaits until that is
 * durable. -ENOENT; -EBUSY: it is being delivered right now; -EINVAL: reason is no line of UTF-8 text of 1 to BOUNCE_REASON_MAX octets;
 * else the DSN could not be kept, and of whom it was to tell is pending as before. */
int bounce_message(struct queue *q, uint64_t id, struct str reason);

#endif
