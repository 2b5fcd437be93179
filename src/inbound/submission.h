/*
 * Message submission (RFC 6409): what a login may send, what is added to its messages, and what happens to those that are too many.
 */
#ifndef INBOUND_SUBMISSION_H
#define INBOUND_SUBMISSION_H

#include "inbound/session_internal.h"

#define SUBMISSION_NAMES_MAX 100000      /* logins that sent something in the last hour; more are held */

/* Code 0: the sender of MAIL is one of the login's own. */
struct reply submission_check_sender(struct session *s, const struct mail_args *mail);

/* Looks at a message's header, up to its empty line or without one. Code 0: every address in From and Sender is the login's own, and the fields
 * that were missing, to be put in front, are in added. Its text is a literal. */
struct reply submission_complete(struct session *s, struct str header, struct buf *added);

/* Counts the transaction's message. True: it is more than the login may send in an hour, and is to be held. */
bool submission_is_too_much(struct session *s);

/* It was held: tells the operator by the log and, once an hour, the owner by a message. Awaits. */
void submission_tell(struct session *s, const struct envelope *env);

#endif
