/*
 * What clients of ours may ask beside sending mail: who is behind an alias (EXPN), and that we send what waits for their domain (ETRN).
 */
#ifndef INBOUND_INQUIRY_H
#define INBOUND_INQUIRY_H

#include "base/str.h"
#include "smtp/reply.h"

struct session;

bool         inquiry_offers_expn(const struct session *s);
bool         inquiry_offers_etrn(const struct session *s);
struct reply inquiry_on_expn(struct session *s, struct str args);
struct reply inquiry_on_etrn(struct session *s, struct str args);        /* awaits the queue */

#endif
