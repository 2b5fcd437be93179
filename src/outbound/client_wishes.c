/*
 * What a sender asked for beyond delivery, handed on: FUTURERELEASE (RFC 4865), DELIVERBY (RFC 2852), MT-PRIORITY (RFC 6710), REQUIRETLS
 * (RFC 8689).
 */
#include "outbound/client_internal.h"

#define NO_DELIVERBY "the sender has set a time for delivery or return, and the next server knows nothing of that (no DELIVERBY)"
#define NO_REQUIRETLS "the sender requires TLS on all the way, and the next server does not promise that (no REQUIRETLS under verified TLS)"
#define BY_TOO_SOON  "the time that the sender has set is shorter than the next server needs"

/* What is left of the sender's time, in whole seconds (RFC 2852, 4.1.4). */
static int64_t seconds_left(const struct envelope *env)
{
    int64_t left = env->deliver_by_ns - clock_wall_ns(), second = NS_PER_S;
    return left >= 0 ? left / second : -((-left + second - 1) / second);
}

static bool is_return(const struct envelope *env)
{
    return (env->by_mode & ~ENVELOPE_BY_TRACE) == 'R';
}

void client_put_wishes(const struct client *c, const struct envelope *env, struct mail_args *args)
{
    if ((c->extensions & CLIENT_FUTURERELEASE) && env->hold_until_ns > clock_wall_ns()) {
        args->seen |= PARAM_HOLDUNTIL;
        args->hold_until_ns = env->hold_until_ns;
    }
    if ((c->extensions & CLIENT_DELIVERBY) && env->deliver_by_ns != 0) {
        args->seen |= PARAM_BY;
        args->by_mode = is_return(env) ? 'R' : 'N';
        args->by_trace = env->by_mode & ENVELOPE_BY_TRACE;
        args->by_s = seconds_left(env);
    }
    if (env->requiretls && !c->lmtp && client_keeps_private(c))
        args->seen |= PARAM_REQUIRETLS;
    if ((c->extensions & CLIENT_MT_PRIORITY) && env->priority != 0) {
        args->seen |= PARAM_MT_PRIORITY;
        args->priority = env->priority;
    }
}

/* RFC 8689, 4.2.1; a bounce goes all the same (5). LMTP is the mailbox's door: there is no way behind it. */
static bool refuses_tls(const struct client *c, const struct envelope *env, struct outcome *out)
{
    if (!env->requiretls || env->null_sender || c->lmtp || client_keeps_private(c))
        return false;
    *out = outcome_of_ours(RCPT_BOUNCED, "5.7.30", NO_REQUIRETLS);
    return true;
}

bool client_refuses(const struct client *c, const struct envelope *env, struct outcome *out)
{
    if (refuses_tls(c, env, out))
        return true;
    if (!is_return(env))
        return false;
    int64_t left = seconds_left(env);
    if (!(c->extensions & CLIENT_DELIVERBY)) {
        if (c->lmtp)                                          /* it is in the mailbox at once */
            return false;
        *out = outcome_of_ours(RCPT_BOUNCED, "5.3.3", NO_DELIVERBY);
    } else if (left < 1 || (uint64_t)left < c->by_min_s) {
        *out = outcome_of_ours(RCPT_BOUNCED, "5.4.7", BY_TOO_SOON);
    } else {
        return false;
    }
    return true;
}
