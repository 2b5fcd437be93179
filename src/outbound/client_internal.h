/*
 * What client.c, client_send.c and client_text.c know of a client, and of a transaction on it.
 */
#ifndef OUTBOUND_CLIENT_INTERNAL_H
#define OUTBOUND_CLIENT_INTERNAL_H

#include "outbound/client.h"
#include "outbound/text.h"
#include "smtp/command.h"
#include <errno.h>

/* -- client.c: commands and replies. Negative: the connection cannot be used any more. All but the first four and the last await. */

int64_t     client_deadline(const struct client *c, int64_t timeout_ns);               /* in so long, and not beyond what the whole may take */
void        client_begin_due(struct client *c);                                        /* another whole begins */
int         client_lost(struct client *c, int error);                                  /* gives the error back */
void        client_log_lines(const struct client *c, const char *side, struct str bytes);
int         client_read_reply(struct client *c, int64_t deadline_ns);                  /* into c->reply */
int         client_put(struct client *c, struct str bytes);
int         client_put_command(struct client *c, struct str line);
int         client_flush(struct client *c);
int         client_command(struct client *c, struct str line, int64_t timeout_ns);     /* one command, one reply */
const char *client_words_for(int error);

/* A server may refuse in the middle and close: its last words are worth more than our error, and still to be read. */
static inline bool client_may_have_words(int error) { return error == -EPIPE || error == -ECONNRESET; }

/* -- client_send.c */

struct transaction {
    struct client            *c;
    const struct client_mail *mail;
    const struct client_mail *whole;         /* with those for whom the server has no room in this transaction */
    struct arena             *a;
    struct str                remote;
    struct text               text;
    size_t                    answered;      /* recipients with a reply to their RCPT */
    size_t                    accepted;
    struct outcome          **in_turn;       /* owned; LMTP: of those accepted, in the order of their RCPT; else NULL */
    size_t                    beyond;        /* too many for this transaction: they stand first among the outcomes */
    bool                      taken;         /* the text, for those accepted */
    bool                      any_reply;
    bool                      reused;        /* the connection has carried another transaction */
    bool                      utf8;          /* it goes with SMTPUTF8 */
    bool                      by_chunks;     /* the text goes by BDAT */
    bool                      data_sent;     /* DATA went out with the last window */
    bool                      chunk_sent;    /* likewise, the whole text in one chunk */
    unsigned                  chunks_unanswered;
    uint64_t                  unsent;        /* of the text, beyond the chunks so far */
    struct str                piece;         /* read of the text, not yet sent */
};

/* Gives everyone who has no outcome yet this one. */
void transaction_settle(struct transaction *t, const struct outcome *o);

/* Awaits the next reply of the transaction. */
int transaction_reply(struct transaction *t, int64_t timeout_ns);

/* -- client_text.c */

/* Awaits: puts DATA, or the whole text if it is small, behind the last recipients. Its reply is read by transaction_send_text. */
int transaction_pipeline_text(struct transaction *t);

/* Awaits: the text to those accepted, and what becomes of it. Without any it ends the transaction. */
int transaction_send_text(struct transaction *t);

/* -- client_wishes.c */

/* Adds to MAIL what the sender asked for and the server offers. */
void client_put_wishes(const struct client *c, const struct envelope *env, struct mail_args *args);

/* What must be delivered or returned in time (RFC 2852, 4.1.4), or under TLS on all the way, goes only to servers that promise the same;
 * *out says why it does not. */
bool client_refuses(const struct client *c, const struct envelope *env, struct outcome *out);

#endif
