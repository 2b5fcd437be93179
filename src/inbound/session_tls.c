/*
 * TLS in a session: STARTTLS (RFC 3207), TLS from the first byte (RFC 8314), and what the trace and the log say of it.
 *
 * Promises: what a client said in plain text is forgotten at the handshake, its name above all, and nothing of it is taken for
 * something said under TLS; the handshake has a deadline; it is offered and done once. Runs in the worker, in the session's task.
 */
#include "base/log.h"
#include "base/metrics.h"
#include "inbound/certificates.h"
#include "inbound/extension.h"
#include "inbound/session_internal.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int handshake(struct session *s, struct tls_context *context);

bool session_offers_tls(const struct session *s)
{
    switch (s->client.tls) {
    case CONF_TLS_STARTTLS:
    case CONF_TLS_REQUIRED: return !stream_is_tls(s->stream);
    case CONF_TLS_NONE:
    case CONF_TLS_IMPLICIT: break;
    }
    return false;
}

bool session_needs_tls(const struct session *s)
{
    return s->client.tls == CONF_TLS_REQUIRED && !stream_is_tls(s->stream);
}

int session_begin_tls(struct session *s)
{
    if (s->client.tls != CONF_TLS_IMPLICIT)
        return 0;
    struct tls_context *context = certificates_get(s->shared->certificates);
    int r = context != NULL ? handshake(s, context) : -ENOENT;
    tls_unref(context);
    return r;
}

/* Commands behind STARTTLS in the same breath: from a client that does not wait for 220, or from somebody between us who wants them to
 * be taken for the client's under TLS (CVE-2011-0411). They are thrown away, and as nobody knows which of them it still counts on, the
 * session ends. */
static struct reply refuse_pipelined(struct session *s)
{
    log_event(LOG_WARN, "starttls-pipelined", LOG_Z("client", s->client_ip), LOG_Z("helo", s->helo),
              LOG_U64("bytes", stream_pending(s->stream).n));
    stream_discard_pending(s->stream);
    return session_farewell(s, 503, "5.5.1", "Wait for the reply to STARTTLS; what came behind it is thrown away");
}

/* Code 0: it may come now. */
static struct reply check_starttls(const struct session *s, struct str args)
{
    if (stream_is_tls(s->stream))
        return reply(503, "5.5.1", "This is TLS already");
    if (!extension_offered(s, EXTENSION_STARTTLS))
        return reply(502, "5.5.1", "That command is not offered here");
    if (args.n > 0)
        return reply(501, "5.5.4", "This command takes no argument");
    if (s->helo[0] == '\0')
        return reply(503, "5.5.1", "Say EHLO first");
    if (s->transaction.open)
        return reply(503, "5.5.1", "There is a transaction already; RSET ends it");
    return reply(0, NULL, NULL);
}

struct reply session_on_starttls(struct session *s, struct str args)
{
    struct reply refusal = check_starttls(s, args);

    if (refusal.code != 0)
        return refusal;
    session_take_line(s);
    if (stream_pending(s->stream).n > 0)
        return refuse_pipelined(s);
    struct tls_context *context = certificates_get(s->shared->certificates);
    if (context == NULL)
        return reply(454, "4.7.0", "TLS is not available now");
    struct reply ready = reply(220, "2.0.0", "Go ahead");
    int r = session_send(s, &ready);
    if (r == 0)
        r = handshake(s, context);
    tls_unref(context);
    return reply(r == 0 ? SESSION_SAID : 0, NULL, NULL);
}

/* RFC 3207, 4.2: what was learned before is forgotten. */
static void forget(struct session *s)
{
    transaction_reset(&s->transaction);
    session_forget_login(s);
    s->helo[0] = '\0';
    s->esmtp = false;
}

static int handshake(struct session *s, struct tls_context *context)
{
    int r = stream_tls_accept(s->stream, context, session_in_grace(s, task_deadline_in(s->conf->tls_handshake_timeout_ns)));

    if (r < 0) {
        metric_add(METRIC_tls_handshakes_failed, 1);
        const char *words = stream_tls_error(s->stream);
        if (restraint_is_worth_a_line(s))
            log_event(LOG_INFO, "tls-failed", LOG_Z("client", s->client_ip), LOG_Z("name", stream_tls_name(s->stream)),
                      LOG_Z("error", words[0] != '\0' ? words : strerror(-r)));
        return r;
    }
    metric_add(METRIC_tls_handshakes, 1);
    metric_add(METRIC_tls_resumed, stream_tls_resumed(s->stream));
    log_event(LOG_INFO, "tls", LOG_Z("client", s->client_ip), LOG_Z("protocol", stream_tls_protocol(s->stream)),
              LOG_Z("cipher", stream_tls_suite(s->stream)), LOG_Z("group", stream_tls_group(s->stream)),
              LOG_Z("name", stream_tls_name(s->stream)), LOG_Z("resumed", stream_tls_resumed(s->stream) ? "yes" : "no"));
    forget(s);
    return 0;
}

/* -- the trace --------------------------------------------------------------------------------------------------------------- */

const char *session_protocol(const struct session *s)
{
    // clang-format off
    static const char *const names[2][2][2][2] = {       /* RFC 3848; with SMTPUTF8, RFC 6531, 4.3 */
        { { { "ESMTP",    "ESMTPA"    }, { "ESMTPS",    "ESMTPSA"    } },
          { { "UTF8SMTP", "UTF8SMTPA" }, { "UTF8SMTPS", "UTF8SMTPSA" } } },
        { { { "LMTP",     "LMTPA"     }, { "LMTPS",     "LMTPSA"     } },
          { { "UTF8LMTP", "UTF8LMTPA" }, { "UTF8LMTPS", "UTF8LMTPSA" } } },
    };
    // clang-format on
    bool utf8 = s->transaction.mail.seen & PARAM_SMTPUTF8;

    if (s->client.local && !session_is_lmtp(s))
        return "local";
    if (!s->esmtp && !s->authenticated)
        return "SMTP";                   /* HELO has no word for TLS in it */
    return names[session_is_lmtp(s)][utf8][stream_is_tls(s->stream)][s->authenticated];
}
