/*
 * Delivery to a Maildir.
 */
#ifndef OUTBOUND_LOCAL_H
#define OUTBOUND_LOCAL_H

#include "conf/conf.h"
#include "outbound/outcome.h"
#include "queue/queue.h"

struct local;

struct local *local_new(void);                                /* its helper threads; NULL without memory. Loads nothing */
void          local_free(struct local *l);

/* Makes what stands before the first placeholder of the mailboxes' pattern, durably, where users are listed: a worker in its sandbox cannot
 * any more. BLOCKS. Negative errno. */
int local_prepare(const struct conf *conf);

/* Delivers the claimed message to its recipient `rcpt` and says what became of it. RCPT_DELIVERED only when the file is in new/ and
 * durable, name and content. Awaits. */
struct outcome local_deliver(struct local *l, const struct conf *conf, struct claim *c, uint32_t rcpt);

#endif
