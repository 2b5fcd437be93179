/*
 * When to try again, and when to give up. Pure but for the random jitter.
 */
#ifndef OUTBOUND_RETRY_H
#define OUTBOUND_RETRY_H

#include "conf/conf.h"
#include "mail/envelope.h"

/* When its time began: at its release, if it was held for its sender (RFC 4865). */
int64_t retry_begin(const struct envelope *env);

/* The wall time of the next attempt for a recipient of that domain, after `attempts` (this one included) have failed: the configuration's delays in turn, the last one
 * again and again, each with a tenth of jitter both ways, and one last attempt when the message expires; one also when the time is over
 * that its sender has set (RFC 2852). */
int64_t retry_next(const struct conf *conf, const struct envelope *env, struct str domain, uint32_t attempts, int64_t now_wall_ns);

/* The wall time at which the message expires. */
int64_t retry_end(const struct conf *conf, const struct envelope *env);

/* Whether a deferral now is the last one. */
bool    retry_is_over(const struct conf *conf, const struct envelope *env, int64_t now_wall_ns);

/* Whether the sender's own time is over: with 'R' nothing more may be tried, with 'N' the sender hears of it. */
bool    retry_is_late(const struct envelope *env, int64_t now_wall_ns);

#endif
