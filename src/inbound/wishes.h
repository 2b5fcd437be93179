/*
 * What MAIL may ask for beyond delivery: when to begin (FUTURERELEASE), until when to be done (DELIVERBY), with what priority
 * (MT-PRIORITY), and never in the clear (REQUIRETLS). The queue and the way out honour it.
 */
#ifndef INBOUND_WISHES_H
#define INBOUND_WISHES_H

#include "mail/envelope.h"
#include "smtp/command.h"
#include "smtp/reply.h"

struct session;

struct wishes {
    int64_t hold_until_ns;               /* wall time; 0: at once */
    int64_t deliver_by_ns;               /* likewise; 0: no limit */
    uint8_t by_mode;                     /* as in the envelope */
    int     priority;
    bool    require_tls;
};

bool wishes_offer_holding(const struct session *s);
void wishes_put_holding(const struct session *s, struct buf *out);
bool wishes_offer_tls(const struct session *s);
void wishes_put_deliver_by(const struct session *s, struct buf *out);

/* Code 250 with *out written: granted, perhaps with another priority than the one asked for, which the reply then says. */
struct reply wishes_grant(struct session *s, const struct mail_args *mail, struct wishes *out);
void         wishes_fill(const struct wishes *w, struct envelope *env);

#endif
