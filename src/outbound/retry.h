/*
 * When to try again, and when to give up. Pure but for the random jitter.
 */
#ifndef OUTBOUND_RETRY_H
#define OUTBOUND_RETRY_H

#include "conf/conf.h"
#include "mail/envelope.h"

/* The wall time of the next attempt, after `attempts` (this one included) have failed: the configuration's delays in turn, the last one
 * again and again, each with a tenth of jitter both ways, and one last attempt when the message expires. */
int64_t retry_next(const struct conf *conf, const struct envelope *env, uint32_t attempts, int64_t now_wall_ns);

/* The wall time at which the message expires. */
int64_t retry_end(const struct conf *conf, const struct envelope *env);

/* Whether a deferral now is the last one. */
bool    retry_is_over(const struct conf *conf, const struct envelope *env, int64_t now_wall_ns);

#endif
