/*
 * FUTURERELEASE (RFC 4865), DELIVERBY (RFC 2852), MT-PRIORITY (RFC 6710), REQUIRETLS (RFC 8689): the server's side. Runs in the worker, in the
 * session's task.
 */
#include "inbound/wishes.h"
#include "base/calendar.h"
#include "inbound/session_internal.h"
#include <inttypes.h>

/* Strangers may not fill our queue with mail for later, nor overtake others. */
static bool is_ours(const struct session *s) { return s->trusted || s->authenticated; }

bool wishes_offer_holding(const struct session *s) { return is_ours(s) && s->conf->future_release_max_ns > 0; }

void wishes_put_holding(const struct session *s, struct buf *out)
{
    buf_printf(out, "%" PRId64 " ", s->conf->future_release_max_ns / NS_PER_S);
    calendar_put_iso(out, clock_wall_ns() + s->conf->future_release_max_ns, false);
}

/* RFC 8689, 3: what came in the clear already needs no such promise. */
bool wishes_offer_tls(const struct session *s) { return stream_is_tls(s->stream); }

/* RFC 4865, 4: not longer than announced. A time that has passed is now. */
static bool grant_hold(const struct session *s, const struct mail_args *mail, int64_t now, struct wishes *out)
{
    int64_t until = 0;

    if (mail->seen & PARAM_HOLDFOR)
        until = now + (int64_t)mail->hold_for_s * NS_PER_S;
    if (mail->seen & PARAM_HOLDUNTIL)
        until = mail->hold_until_ns;
    out->hold_until_ns = until > now ? until : 0;
    return until <= now + s->conf->future_release_max_ns;
}

/* As announced, without its time: "30" or nothing. */
void wishes_put_deliver_by(const struct session *s, struct buf *out)
{
    if (s->conf->deliver_by_min_ns > 0)
        buf_printf(out, "%" PRId64, s->conf->deliver_by_min_ns / NS_PER_S);
}

/* The time is the client's at MAIL (RFC 2852, 4); of mail that is held it begins with its release. */
static bool grant_deliver_by(const struct session *s, const struct mail_args *mail, int64_t now, struct wishes *out)
{
    if (!(mail->seen & PARAM_BY))
        return true;
    if (mail->by_mode == 'R' && mail->by_s * NS_PER_S < s->conf->deliver_by_min_ns)
        return false;
    out->deliver_by_ns = (out->hold_until_ns > 0 ? out->hold_until_ns : now) + mail->by_s * NS_PER_S;
    out->by_mode = (uint8_t)(mail->by_mode | (mail->by_trace ? ENVELOPE_BY_TRACE : 0));
    return true;
}

struct reply wishes_grant(struct session *s, const struct mail_args *mail, struct wishes *out)
{
    struct wishes w = { .priority = mail->priority, .require_tls = mail->seen & PARAM_REQUIRETLS };
    int64_t now = clock_wall_ns();

    if (!grant_hold(s, mail, now, &w))
        return reply(501, "5.5.4", "That is further in the future than this server holds mail");
    if (!grant_deliver_by(s, mail, now, &w))
        return reply(555, "5.5.4", "That is sooner than this server can promise");
    if (!is_ours(s) && w.priority > 0)
        w.priority = 0;
    *out = w;
    if (w.priority == mail->priority)
        return reply(250, "2.1.0", "Sender ok");
    return reply(250, "2.3.6", "0 is the priority given, for you are not one of ours");     /* RFC 6710, 5 */
}

void wishes_fill(const struct wishes *w, struct envelope *env)
{
    env->hold_until_ns = w->hold_until_ns;
    env->deliver_by_ns = w->deliver_by_ns;
    env->by_mode = w->by_mode;
    env->priority = w->priority;
    env->requiretls = w->require_tls;
}
