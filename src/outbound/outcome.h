/*
 * From what happened to the outcome of a recipient.
 *
 * In outbound/, RCPT_BOUNCED means "failed for good": whether a DSN is owed is decided once, in dsn.c.
 */
#ifndef OUTBOUND_OUTCOME_H
#define OUTBOUND_OUTCOME_H

#include "base/arena.h"
#include "queue/queue.h"
#include "smtp/reply.h"

/* What a server's reply means for the recipients it is about: 2xx delivered, 4xx deferred, 5xx failed; anything else is a
 * server that does not speak SMTP, and deferred. Text and status are copied into the arena. */
struct outcome outcome_of_reply(struct arena *a, struct smtp_reply *reply, struct str remote);

/* Our own words. status and text are literals. */
struct outcome outcome_of_ours(enum rcpt_state state, const char *status, const char *text);

/* The same with the reason behind it: "text: detail". */
struct outcome outcome_with_detail(struct arena *a, enum rcpt_state state, const char *status, struct str remote, const char *text,
                                   const char *detail);

/* Copies everything but .rcpt. */
void outcome_assign(struct outcome *to, const struct outcome *from);

/* Never tried: what a fresh array of outcomes holds. */
bool outcome_is_set(const struct outcome *o);

#endif
