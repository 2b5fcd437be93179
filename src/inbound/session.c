/*
 * The loop of a session, and the lines it reads.
 *
 * Promises: one reply for each line, whatever is in it; a line ends in CRLF and in nothing else (RFC 5321, 2.3.8); replies
 * leave when no complete further line is waiting, so a pipelining client gets them in one piece (RFC 2920, 3.1); every wait
 * has a deadline. Runs in the worker, on the loop that accepted the connection.
 */
#include "inbound/session.h"
#include "base/clock.h"
#include "base/log.h"
#include "inbound/extension.h"
#include "inbound/session_internal.h"
#include "policy/access.h"
#include "smtp/foreign.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_DROP_MAX    (1024 * 1024)   /* of one line that is too long, before we give up on the client */
#define BARE_LF_WAIT_NS  (5 * NS_PER_S)  /* a bare LF and then silence: somebody who will wait for us for ever */
#define FAREWELL_WAIT_NS (5 * NS_PER_S)
#define REPLY_BYTES_MAX  4096

enum line_result { LINE_READ, LINE_TOO_LONG, LINE_FLOOD, LINE_BARE_LF, LINE_FOREIGN, LINE_TIMEOUT, LINE_STOP, LINE_NO_MEMORY, LINE_GONE };

static struct reply     answer(struct session *s);
static enum line_result read_line(struct session *s, bool auth, struct str *out);
static bool             another_line_waits(const struct session *s);
static int              put_replies(struct session *s, const struct reply *r);
static void             shield(struct session *s);
static int64_t          send_deadline(const struct session *s);

void session_run(struct session_shared *shared, struct stream *stream, const struct session_client *client)
{
    struct session *s = session_new(shared, stream, client);

    if (s == NULL) {
        stream_close(stream);
        return;
    }
    session_talk(s);
    session_free(s);
}

void session_talk(struct session *s)
{
    if (session_begin_tls(s) < 0)
        return;
    s->replies = 1;
    struct reply r = restraint_meet(s);
    if (r.code == 0)
        r = session_greeting(s);
    for (;;) {
        if (r.code != SESSION_SAID && put_replies(s, &r) < 0)
            return;              /* it reads no replies, and how much of this one it got nobody knows */
        if (s->closing)
            break;
        if (!another_line_waits(s)) {
            int sent = stream_flush(s->stream, send_deadline(s));
            if (sent < 0 && sent != -ECANCELED)      /* cancelled: the next read says so again, and we say goodbye */
                break;
        }
        s->replies = 1;
        r = answer(s);
        session_take_line(s);
        if (r.code == 0)         /* the client is gone: nobody to tell */
            break;
    }
    if (s->closing && task_canceled())
        shield(s);               /* the replies before the last one were not sent yet, perhaps: a 250 among them */
    if (s->closing)
        (void)stream_shutdown(s->stream, task_deadline_in(FAREWELL_WAIT_NS));    /* it is over either way */
}

struct session *session_new(struct session_shared *shared, struct stream *stream, const struct session_client *client)
{
    struct session *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->shared = shared;
    s->stream = stream;
    s->client = *client;
    s->conf = conf_current();
    session_begin_due(s);
    session_guard_login(s);
    transaction_init(&s->transaction, s->conf->recipients_max + s->conf->alias_recipients_max);
    if (client->local) {
        s->trusted = true;       /* the kernel vouches for the uid, and each message carries it */
        snprintf(s->login, sizeof s->login, "uid:%u", client->uid);
    } else {
        session_know_client(s, client->unknown ? NULL : &client->addr);
    }
    return s;
}

void session_know_client(struct session *s, const struct net_addr *addr)
{
    const struct conf *c = s->conf;

    s->extensions_off = s->client.terms.extensions_off;
    if (addr == NULL) {
        snprintf(s->client_ip, sizeof s->client_ip, "unknown");
        s->trusted = false;
        s->ip_len = 0;
        return;
    }
    net_addr_format_ip(addr, s->client_ip);
    s->ip_len = net_addr_ip(addr, s->ip);
    s->trusted = access_is_trusted(c, s->ip, s->ip_len);
    if (s->shared->limits != NULL && !s->trusted)
        limit_find_client(s->shared->limits, s->ip, s->ip_len, &s->counted);
    for (size_t i = 0; i < c->client_network_count; i++)
        if (ip_range_has(&c->client_networks[i].network, s->ip, s->ip_len))
            s->extensions_off |= c->client_networks[i].extensions_off;
}

/* RFC 5321, 3.1: the word ESMTP says that EHLO is worth trying. */
struct reply session_greeting(struct session *s)
{
    return session_reply(s, 220, NULL, "%s %s Nightmail", s->conf->hostname, session_is_lmtp(s) ? "LMTP" : "ESMTP");
}

bool session_is_lmtp(const struct session *s) { return s->client.terms.service == CONF_SERVICE_LMTP; }

void session_free(struct session *s)
{
    transaction_reset(&s->transaction);
    conf_unref(s->conf);
    stream_close(s->stream);
    if (s->shielded)
        task_shield_end();
    free(s->told);
    free(s);
}

/* The reply to the next line; code 0 if there will be none. */
static struct reply answer(struct session *s)
{
    struct reply failure;
    struct str line;

    if (session_read(s, false, &line, &failure))
        /* analyze clang-analyzer-core.CallAndMessage: a line was read */
        return command_answer(s, line);
    return s->closing || failure.code == 0 ? failure : command_refused(s, STR(""), failure);
}

bool session_read(struct session *s, bool auth, struct str *out, struct reply *out_failure)
{
    *out_failure = reply(0, NULL, NULL);
    switch (read_line(s, auth, out)) {
    case LINE_READ: return true;
    case LINE_TOO_LONG: *out_failure = reply(500, auth ? "5.5.6" : "5.5.2", "The line is too long"); break;      /* RFC 4954, 4 and 6 */
    case LINE_FLOOD: *out_failure = session_farewell(s, 421, "4.7.0", "This line has no end"); break;
    case LINE_BARE_LF: *out_failure = session_farewell(s, 421, "4.5.2", "A line ends in CR LF, not in LF alone"); break;
    case LINE_FOREIGN: *out_failure = restraint_check_protocol(s, stream_pending(s->stream)); break;
    case LINE_TIMEOUT:
        *out_failure = session_farewell(s, 421, "4.4.2", session_is_overdue(s) ? "No message came for too long" : "You said nothing for too long");
        break;
    case LINE_STOP: *out_failure = session_farewell(s, 421, "4.3.2", "The server is stopping"); break;
    case LINE_NO_MEMORY: *out_failure = session_farewell(s, 421, "4.3.0", "No memory now; try again later"); break;
    case LINE_GONE: break;
    }
    return false;
}

/* -- lines ------------------------------------------------------------------------------------------------------------- */

/* The length of the line at the beginning of text, with its CRLF; 0 if its end is not there. from is where to begin to look. */
static size_t line_end(struct str text, size_t from)
{
    while (from < text.n) {
        const char *lf = memchr(text.p + from, '\n', text.n - from);
        if (lf == NULL)
            return 0;
        size_t at = (size_t)(lf - text.p);
        if (at > 0 && text.p[at - 1] == '\r')
            return at + 1;
        from = at + 1;
    }
    return 0;
}

/* Why there is none, by what session_fill() returned. */
static enum line_result no_line(ssize_t n)
{
    switch (n) {
    case -ETIMEDOUT: return LINE_TIMEOUT;
    case -ECANCELED: return LINE_STOP;
    case -ENOMEM: return LINE_NO_MEMORY;
    }
    return LINE_GONE;
}

/* Reads away the rest of a line that is too long, so that what follows is the next command. */
static enum line_result drop_line(struct session *s, int64_t deadline_ns)
{
    size_t dropped = 0;

    for (;;) {
        struct str text = stream_pending(s->stream);
        size_t end = line_end(text, 0);
        if (end > 0) {
            stream_consume(s->stream, end);
            return LINE_TOO_LONG;
        }
        /* A CR at the end stays: its LF may come next. */
        size_t n = text.n > 0 && text.p[text.n - 1] == '\r' ? text.n - 1 : text.n;
        stream_consume(s->stream, n);
        dropped += n;
        if (dropped > LINE_DROP_MAX)
            return LINE_FLOOD;
        ssize_t more = session_fill(s, deadline_ns, true);
        if (more <= 0)
            return no_line(more);
    }
}

/* An initial response may make AUTH as long as the lines that follow it (RFC 4954, 4). */
static size_t line_max(struct str text, bool auth)
{
    return auth || str_starts_nocase(text, STR("AUTH ")) ? SMTP_AUTH_LINE_MAX : SMTP_LINE_MAX;
}

static enum line_result read_line(struct session *s, bool auth, struct str *out)
{
    /* One deadline for the whole line: a byte now and then does not hold a session for ever (RFC 5321, 4.5.3.2.7). */
    int64_t deadline = task_deadline_in(s->conf->command_timeout_ns);
    size_t seen = 0;

    for (;;) {
        struct str text = stream_pending(s->stream);
        if (!auth && foreign_protocol(text) != NULL)
            return LINE_FOREIGN;
        size_t end = line_end(text, seen);
        size_t max = line_max(text, auth);
        if (end > max || (end == 0 && text.n > max))
            return drop_line(s, deadline);
        if (end > 0) {
            s->line_length = end;
            *out = str_head(text, end - 2);
            return LINE_READ;
        }
        bool bare_lf = text.n > 0 && memchr(text.p, '\n', text.n) != NULL;
        int64_t until = bare_lf ? task_deadline_in(BARE_LF_WAIT_NS) : deadline;
        seen = text.n;
        ssize_t n = session_fill(s, until < deadline ? until : deadline, true);
        if (n <= 0)
            return n == -ETIMEDOUT && bare_lf ? LINE_BARE_LF : no_line(n);
    }
}

static bool another_line_waits(const struct session *s) { return line_end(stream_pending(s->stream), 0) > 0; }

void session_take_line(struct session *s)
{
    stream_consume(s->stream, s->line_length);
    s->line_length = 0;
}

/* To the end of the session: from here on the grace period is the limit. */
static void shield(struct session *s)
{
    if (!s->shielded)
        task_shield_begin();
    s->shielded = true;
}

int64_t session_in_grace(const struct session *s, int64_t deadline_ns)
{
    int64_t stop = s->shielded ? s->shared->stop_deadline_ns : TASK_FOREVER;
    int64_t end = stop < s->due_ns ? stop : s->due_ns;
    return deadline_ns < end ? deadline_ns : end;
}

void session_begin_due(struct session *s) { s->due_ns = task_deadline_in(s->conf->transaction_timeout_ns); }
bool session_is_overdue(const struct session *s) { return clock_mono_ns() >= s->due_ns; }

static int64_t send_deadline(const struct session *s) { return session_in_grace(s, task_deadline_in(s->conf->command_timeout_ns)); }

ssize_t session_fill(struct session *s, int64_t deadline_ns, bool idle)
{
    ssize_t n = s->shielded ? -ECANCELED : stream_fill(s->stream, session_in_grace(s, deadline_ns));

    if (n != -ECANCELED)
        return n;
    shield(s);
    return idle ? -ECANCELED : stream_fill(s->stream, session_in_grace(s, deadline_ns));
}

/* -- replies ------------------------------------------------------------------------------------------------------------ */

static int put_reply(struct session *s, const struct reply *r)
{
    char bytes[REPLY_BYTES_MAX];
    struct buf out;

    struct reply plain = *r;

    if (extension_is_off(s, EXTENSION_ENHANCEDSTATUSCODES))
        plain.enhanced = NULL;
    buf_init_fixed(&out, bytes, sizeof bytes);
    reply_put(&out, &plain);
    /* A client that does not read its replies is waited for here, up to the deadline. */
    stream_write_deadline(s->stream, send_deadline(s));
    return stream_put(s->stream, buf_str(&out));
}

/* A last one is said once: it is about the session. */
static int put_replies(struct session *s, const struct reply *r)
{
    uint32_t times = s->closing ? 1 : s->replies;
    int put = 0;

    for (uint32_t i = 0; put == 0 && i < times; i++)
        put = put_reply(s, r);
    return put;
}

int session_send(struct session *s, const struct reply *r)
{
    int sent = put_reply(s, r);
    return sent < 0 ? sent : session_flush(s);
}

int session_flush(struct session *s)
{
    if (stream_unsent(s->stream) == 0)
        return 0;
    int sent = stream_flush(s->stream, send_deadline(s));
    if (sent != -ECANCELED)
        return sent;
    shield(s);
    return stream_flush(s->stream, send_deadline(s));
}

struct reply session_reply(struct session *s, int code, const char *enhanced, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(s->text, sizeof s->text, format, args);
    va_end(args);
    return reply(code, enhanced, s->text);
}

struct reply session_farewell(struct session *s, int code, const char *enhanced, const char *text)
{
    s->closing = true;
    if (code == 421)
        log_event(LOG_INFO, "session-ended", LOG_Z("client", s->client.local ? s->login : s->client_ip), LOG_Z("helo", s->helo),
                  LOG_I64("code", code), LOG_Z("status", enhanced), LOG_Z("text", text));
    return session_reply(s, code, enhanced, "%s %s", s->conf->hostname, text);
}
