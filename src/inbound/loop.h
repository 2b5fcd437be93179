/*
 * Mail that goes round: seen in a header as it passes by, before the message is taken.
 *
 * Hosts leave their traces in Received, mailboxes in Delivered-To (RFC 5321, 6.3; RFC 9228). Who is told at the dot still knows whom to tell;
 * a message that we took and then found out of would be bounced to whoever stands in its envelope.
 */
#ifndef INBOUND_LOOP_H
#define INBOUND_LOOP_H

#include "conf/conf.h"
#include "mail/envelope.h"
#include "mail/field_watch.h"
#include "smtp/reply.h"

#define LOOP_MAILBOXES_MAX 8192          /* bytes of all values of Delivered-To */

struct loop {
    struct field_watch received, delivered;
    struct buf         mailboxes;        /* a line each */
};

void loop_begin(struct loop *l);

/* Code 0: nothing is wrong with this further piece of the header. */
struct reply loop_see(struct loop *l, const struct conf *c, struct str fields);

/* The header is over. Code 0: none of the recipients is one of our mailboxes that had this message before. */
struct reply loop_of_mailboxes(const struct loop *l, const struct conf *c, const struct recipient *rcpts, size_t rcpt_count);

void loop_free(struct loop *l);          /* zeroed is fine */

#endif
