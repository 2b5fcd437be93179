/*
 * A mail transaction: from MAIL to its end, good or bad. Its memory is one arena, gone at the end.
 */
#ifndef INBOUND_TRANSACTION_H
#define INBOUND_TRANSACTION_H

#include "base/arena.h"
#include "base/codec.h"
#include "base/map.h"
#include "inbound/receiving.h"
#include "inbound/wishes.h"
#include "mail/envelope.h"
#include "smtp/command.h"

struct transaction {
    struct arena      arena;             /* also of the arguments of commands outside of a transaction */
    bool              open;              /* MAIL was accepted */
    struct mail_args  mail;
    struct wishes     wishes;
    struct recipient *rcpts;             /* to whom it goes: aliases are no longer among them */
    size_t            rcpt_count, rcpt_capacity;
    struct map_str    rcpt_keys;         /* of rcpts: key -> index + 1; owned, the keys are in the arena */
    struct map_str    named;             /* as the client spelt those who brought somebody: address_key; likewise */
    struct str        last_key;          /* of rcpt_keys, the newest one */
    uint32_t          rcpt_replies;      /* RCPT commands answered with 250, those that named somebody again too */
    char              id[CODEC_ID_LEN + 1];   /* of the message, as text; "" before its text begins */
    struct receiving  text;                   /* begun by DATA, or by the first BDAT */
    bool              over;                   /* only the reply is to be made yet */
};

/* The recipients at a time. */
struct transaction_mark {
    struct recipient *rcpts;
    size_t            rcpt_count, rcpt_capacity;
};

void transaction_init(struct transaction *t, uint32_t rcpts_max);

/* The one end of every transaction: after the last reply to DATA or BDAT, at RSET, HELO, EHLO, a lost connection. Nothing of it remains. */
void transaction_reset(struct transaction *t);

/* Whether the client named it before, and it brought somebody. */
bool transaction_was_named(struct transaction *t, const struct address *rcpt);
int  transaction_name(struct transaction *t, const struct address *rcpt);    /* -ENOMEM */

/* key, in the arena, is one for all spellings of one recipient. 0, also where he is there already; or -ENOMEM. */
int  transaction_add(struct transaction *t, const struct recipient *rcpt, struct str key);

/* Takes those back who were added since the mark; before the arena is rewound. */
struct transaction_mark transaction_mark(const struct transaction *t);
void                    transaction_take_back(struct transaction *t, struct transaction_mark to);

#endif
