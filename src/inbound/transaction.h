/*
 * A mail transaction: from MAIL to its end, good or bad. Its memory is one arena, gone at the end.
 */
#ifndef INBOUND_TRANSACTION_H
#define INBOUND_TRANSACTION_H

#include "base/arena.h"
#include "base/codec.h"
#include "inbound/receiving.h"
#include "mail/envelope.h"
#include "smtp/command.h"

struct transaction {
    struct arena      arena;             /* also of the arguments of commands outside of a transaction */
    bool              open;              /* MAIL was accepted */
    struct mail_args  mail;
    struct recipient *rcpts;
    size_t            rcpt_count, rcpt_capacity;
    char              id[CODEC_ID_LEN + 1];   /* of the message, as text; "" before its text begins */
    struct receiving  text;                   /* begun by DATA, or by the first BDAT */
    bool              over;                   /* only the reply is to be made yet */
};

void transaction_init(struct transaction *t, uint32_t recipients_max);

/* The one end of every transaction: after the last reply to DATA or BDAT, at RSET, HELO, EHLO, a lost connection. Nothing of it remains. */
void transaction_reset(struct transaction *t);

bool transaction_has(const struct transaction *t, const struct address *rcpt);   /* as the client spelt it */
int  transaction_add(struct transaction *t, const struct recipient *rcpt);       /* -ENOMEM */

#endif
