/*
 * Clients that are not ours, kept to what is due to them: how much of everything (policy/limit.h), and one thing after another, as the protocol has
 * it. Trusted networks, and whoever has logged in, are free of it. Runs in the worker, in the session's task.
 */
#include "base/log.h"
#include "inbound/session_internal.h"
#include "smtp/foreign.h"

/* -- how much ------------------------------------------------------------------------------------------------------------------- */

/* For whom a proxy speaks without saying who it is, the proxy answers. */
static bool is_counted(const struct session *s) { return s->ip_len > 0 && !s->trusted && s->shared->limits != NULL; }

bool restraint_allows(const struct session *s, enum limit_kind kind)
{
    return !is_counted(s) || s->authenticated || !limit_is_spent(s->shared->limits, s->conf, kind, &s->counted);
}

bool restraint_take(const struct session *s, enum limit_kind kind)
{
    return !is_counted(s) || s->authenticated || limit_take(s->shared->limits, s->conf, kind, &s->counted);
}

bool restraint_is_worth_a_line(const struct session *s) { return restraint_take(s, LIMIT_LOG_LINES); }

/* -- logins --------------------------------------------------------------------------------------------------------------------- */

bool restraint_login_is_blocked(const struct session *s, struct str login)
{
    return is_counted(s) && limit_login_blocked(s->shared->limits, s->conf, login, s->ip, s->ip_len);
}

void restraint_login_worked(const struct session *s, struct str login)
{
    if (is_counted(s))
        limit_login_worked(s->shared->limits, login, s->ip, s->ip_len);
}

uint32_t restraint_login_failed(const struct session *s, struct str login)
{
    uint32_t most = s->auth_failures;

    if (!is_counted(s))
        return most;
    (void)limit_take(s->shared->limits, s->conf, LIMIT_LOGIN_FAILURES, &s->counted);     /* none left: the next AUTH hears of it */
    if (login.n > 0)
        limit_login_failed(s->shared->limits, s->conf, login);
    uint32_t of_client = limit_used(s->shared->limits, s->conf, LIMIT_LOGIN_FAILURES, &s->counted);
    uint32_t of_login = login.n > 0 ? limit_login_failures(s->shared->limits, s->conf, login) : 0;
    most = of_client > most ? of_client : most;
    return of_login > most ? of_login : most;
}

/* -- one thing after another ---------------------------------------------------------------------------------------------------- */

static bool is_kept_in_step(const struct session *s) { return s->conf->enforce_sync && !s->client.local && !s->trusted; }

/* Not SMTP's way, and those who speak so rarely listen: the words are for the log. */
static struct reply send_away(struct session *s, const char *event, const char *protocol, const char *text)
{
    if (restraint_is_worth_a_line(s))
        log_event(LOG_INFO, event, LOG_Z("client", s->client.local ? s->login : s->client_ip), LOG_Z("helo", s->helo), LOG_Z("protocol", protocol),
                  LOG_U64("bytes", stream_pending(s->stream).n));
    (void)restraint_take(s, LIMIT_ERRORS);
    stream_discard_pending(s->stream);
    s->line_length = 0;
    return session_farewell(s, 554, "5.5.0", text);
}

struct reply restraint_meet(struct session *s)
{
    if (!is_kept_in_step(s) || stream_is_tls(s->stream))     /* before TLS it could not speak */
        return reply(0, NULL, NULL);
    ssize_t n = (ssize_t)stream_pending(s->stream).n;
    if (n == 0)
        n = session_fill(s, task_deadline_in(s->conf->greeting_delay_ns), true);
    if (n <= 0)                                  /* silent, as it should be; or cancelled or gone, which the session's first read says again */
        return reply(0, NULL, NULL);
    struct reply r = restraint_check_protocol(s, stream_pending(s->stream));
    return r.code != 0 ? r : send_away(s, "early-talker", "", "You spoke before the greeting");
}

/* Before EHLO nobody has been told that pipelining is offered. */
bool restraint_is_out_of_turn(const struct session *s, bool last)
{
    return is_kept_in_step(s) && (last || !s->esmtp) && stream_pending(s->stream).n > s->line_length;
}

struct reply restraint_refuse_out_of_turn(struct session *s)
{
    return send_away(s, "spoke-out-of-turn", "", "Wait for the reply to this command before you go on");
}

struct reply restraint_check_protocol(struct session *s, struct str input)
{
    const char *protocol = foreign_protocol(input);

    return protocol == NULL ? reply(0, NULL, NULL) : send_away(s, "foreign-protocol", protocol, "This is SMTP, and you speak something else");
}
