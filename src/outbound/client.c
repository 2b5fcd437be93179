/*
 * The SMTP client's connection: commands and replies, the opening and the end. See client.h; transactions are in client_send.c.
 */
#include "outbound/client.h"
#include "base/log.h"
#include "base/metrics.h"
#include "lookup/relay_token.h"
#include "mail/domain.h"
#include "outbound/client_auth.h"
#include "outbound/client_internal.h"
#include "run/keeper.h"
#include "run/stream.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUIT_WAIT_NS      (1 * NS_PER_S)
#define REMOTE_MAX        sizeof(((struct client *)NULL)->remote)

/* -- time --------------------------------------------------------------------------------------------------------------- */

/* A reply shortly before each timeout, for each of a thousand recipients, would keep a slot for days. */
int64_t client_deadline(const struct client *c, int64_t timeout_ns)
{
    int64_t deadline = task_deadline_in(timeout_ns);
    return deadline < c->due_ns ? deadline : c->due_ns;
}

void client_begin_due(struct client *c) { c->due_ns = task_deadline_in(c->conf->delivery_timeout_ns); }

/* -- replies ----------------------------------------------------------------------------------------------------------- */

int client_lost(struct client *c, int error)
{
    c->usable = false;
    return error;
}

/* At log level debug the whole conversation can be read, line by line. */
void client_log_lines(const struct client *c, const char *side, struct str bytes)
{
    if (!log_level_on(LOG_DEBUG))
        return;
    while (bytes.n > 0) {
        struct str line;
        str_cut(bytes, '\n', &line, &bytes);
        if (line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--;
        log_event(LOG_DEBUG, "smtp-out", LOG_Z("remote", c->remote), LOG_STR(side, line));
    }
}

/* Awaits the next reply into c->reply. Negative: the connection cannot be used any more. */
int client_read_reply(struct client *c, int64_t deadline_ns)
{
    smtp_reply_clear(&c->reply);
    for (;;) {
        size_t consumed = 0;
        struct str pending = stream_pending(c->stream);
        enum reply_result result = smtp_parse_reply(pending, &consumed, &c->reply);
        client_log_lines(c, "said", str_head(pending, consumed));
        stream_consume(c->stream, consumed);
        switch (result) {
        case REPLY_DONE:
            if (c->reply.code == 421)    /* it closes after this one (RFC 5321, 3.8) */
                c->usable = false;
            return 0;
        case REPLY_BAD: return client_lost(c, -EBADMSG);
        case REPLY_MORE: break;
        }
        ssize_t n = stream_fill(c->stream, deadline_ns);
        if (n <= 0)
            return client_lost(c, n == 0 ? -EPIPE : (int)n);
    }
}

int client_put(struct client *c, struct str bytes)
{
    int r = stream_put(c->stream, bytes);
    return r < 0 ? client_lost(c, r) : 0;
}

int client_put_command(struct client *c, struct str line)
{
    client_log_lines(c, "we_say", line);
    return client_put(c, line);
}

int client_flush(struct client *c)
{
    int r = stream_flush(c->stream, client_deadline(c, c->conf->reply_timeout_ns));
    return r < 0 ? client_lost(c, r) : 0;
}

/* Awaits: one command, one reply. */
int client_command(struct client *c, struct str line, int64_t timeout_ns)
{
    int r = client_put_command(c, line);
    if (r == 0)
        r = client_flush(c);
    return r < 0 ? r : client_read_reply(c, client_deadline(c, timeout_ns));
}

/* -- opening ----------------------------------------------------------------------------------------------------------- */

/* "RCPTMAX=100 MAILMAX=20"; what we do not know, and a limit of none, is passed over (RFC 9422, 4). */
static void note_limits(struct client *c, struct str limits)
{
    while (limits.n > 0) {
        struct str limit, name, value;
        uint64_t n = 0;
        str_cut(str_trim(limits), ' ', &limit, &limits);
        if (!str_cut(limit, '=', &name, &value) || !str_to_u64(value, UINT32_MAX, &n))
            continue;
        if (str_eq_nocase(name, STR("RCPTMAX")))
            c->rcpt_max = n;
        if (str_eq_nocase(name, STR("MAILMAX")))
            c->mail_max = n;
    }
}

static void note_extension(struct client *c, struct str line)
{
    static const struct {
        const char *keyword;
        enum client_extension extension;
    } known[] = {
        { "PIPELINING", CLIENT_PIPELINING },
        { "SIZE",       CLIENT_SIZE       },
        { "8BITMIME",   CLIENT_8BITMIME   },
        { "DSN",        CLIENT_DSN        },
        { "STARTTLS",   CLIENT_STARTTLS   },
        { "CHUNKING",   CLIENT_CHUNKING   },
        { "BINARYMIME", CLIENT_BINARYMIME },
        { "SMTPUTF8",   CLIENT_SMTPUTF8   },
        { "FUTURERELEASE", CLIENT_FUTURERELEASE },
        { "DELIVERBY",  CLIENT_DELIVERBY  },
        { "MT-PRIORITY", CLIENT_MT_PRIORITY },
        { "REQUIRETLS", CLIENT_REQUIRETLS },
    };
    struct str word, rest;
    str_cut(str_trim(line), ' ', &word, &rest);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (str_eq_nocase(word, str_of(known[i].keyword)))
            c->extensions |= known[i].extension;
    if (str_eq_nocase(word, STR("AUTH")))
        c->mechanisms |= client_auth_mechanisms(rest);
    if (str_eq_nocase(word, STR("LIMITS")))
        note_limits(c, rest);
    if (str_eq_nocase(word, STR("DELIVERBY")))
        (void)str_to_u64(str_trim(rest), INT32_MAX, &c->by_min_s);
    if (str_eq_nocase(word, STR("SIZE")))
        (void)str_to_u64(str_trim(rest), UINT64_MAX, &c->size_max);   /* SIZE without a number sets no limit (RFC 1870, 4) */
}

static void note_extensions(struct client *c)
{
    struct str line, rest = buf_str(&c->reply.text);
    bool first = true;                                        /* the first line is the server's name */
    while (rest.n > 0) {
        str_cut(rest, '\n', &line, &rest);
        if (!first)
            note_extension(c, line);
        first = false;
    }
    if (c->by_data)
        c->extensions &= ~(unsigned)(CLIENT_CHUNKING | CLIENT_BINARYMIME);
}

static bool greets_as_ourselves(const struct client *c)
{
    struct str name, rest;
    str_cut(buf_str(&c->reply.text), ' ', &name, &rest);
    return str_eq_nocase(name, str_of(c->conf->hostname));
}

static int say_hello(struct client *c, const char *verb)
{
    char line[DOMAIN_MAX + 16];
    struct buf b;
    buf_init_fixed(&b, line, sizeof(line));
    buf_printf(&b, "%s %s\r\n", verb, c->conf->hostname);
    assert(buf_ok(&b));                                       /* conf checks the host name's length */
    return client_command(c, buf_str(&b), c->conf->reply_timeout_ns);
}

/* Awaits EHLO's answer, or HELO's. 0, -EREMOTEIO when a reply refused us (it stands in c->reply), or the error. */
static int hello(struct client *c)
{
    c->extensions = 0;                                        /* whatever it says to this one: an earlier answer counts no more */
    c->mechanisms = 0;
    c->size_max = c->by_min_s = c->rcpt_max = c->mail_max = 0;
    int r = say_hello(c, c->lmtp ? "LHLO" : "EHLO");
    if (r < 0)
        return r;
    if (c->reply.code / 100 == 2) {
        note_extensions(c);
        return 0;
    }
    if (c->reply.code / 100 != 5 || !c->usable || c->lmtp)    /* LMTP has no other word (RFC 2033, 4.1) */
        return -EREMOTEIO;
    r = say_hello(c, "HELO");                                 /* RFC 5321, 3.2: an old server */
    if (r < 0)
        return r;
    return c->reply.code / 100 == 2 ? 0 : -EREMOTEIO;
}

static int handshake(struct client *c, const struct client_security *s, struct str host)
{
    c->privacy = CLIENT_SHAKING;
    int r = client_tls_handshake(s, c->stream, c->conf, host, c->remote, c->tls_error);
    return r < 0 ? client_lost(c, r) : 0;
}

/* Awaits STARTTLS and its handshake, then EHLO again: what was announced in plain text counts for nothing (RFC 3207, 4.2). 0 also where a
 * server cannot and need not; -EPROTONOSUPPORT where it must. */
static int start_tls(struct client *c, const struct client_security *s, struct str host)
{
    bool must = s->level > CONF_CLIENT_TLS_MAY;
    if (!(c->extensions & CLIENT_STARTTLS))
        return must ? -EPROTONOSUPPORT : 0;
    c->privacy = CLIENT_SHAKING;
    int r = client_command(c, STR("STARTTLS\r\n"), c->conf->reply_timeout_ns);
    if (r < 0) {
        snprintf(c->tls_error, sizeof c->tls_error, "no reply to STARTTLS: %s", client_words_for(r));
        return r;
    }
    c->privacy = CLIENT_PLAIN;
    if (c->reply.code != 220)
        return must || !c->usable ? -EREMOTEIO : 0;
    if (stream_pending(c->stream).n > 0) {                    /* CVE-2021-38371: somebody speaks for the server, to be believed under TLS */
        snprintf(c->tls_error, sizeof c->tls_error, "something came behind the reply to STARTTLS, before the handshake");
        return client_lost(c, -EBADMSG);
    }
    r = handshake(c, s, host);
    if (r == 0)
        r = hello(c);
    if (r == 0)
        c->privacy = CLIENT_PRIVATE;
    return r;
}

/* A line of the AUTH exchange: it goes into no log. */
static int say_secret(void *arg, struct str line)
{
    struct client *c = arg;
    client_log_lines(c, "we_say", STR("(a login)"));
    int r = client_put(c, line);
    if (r == 0)
        r = client_put(c, STR("\r\n"));
    if (r == 0)
        r = client_flush(c);
    return r < 0 ? r : client_read_reply(c, client_deadline(c, c->conf->reply_timeout_ns));
}

/* Awaits. 0, or -EACCES with the reason in auth_error. */
static int log_in_by_password(struct client *c, struct client_auth *how)
{
    char password[KEEPER_PASSWORD_MAX + 1] = "";

    int r = keeper_credential(c->conf->relay_host_password_file, password);
    if (r < 0) {
        smtp_reply_clear(&c->reply);
        snprintf(c->auth_error, sizeof c->auth_error, "relay_host_password: %s", r == -EINVAL ? "the file holds no password" : strerror(-r));
        r = -EACCES;
    } else {
        how->password = str_of(password);
        r = client_auth_run(how, c->auth_error);
    }
    explicit_bzero(password, sizeof password);
    return r;
}

/* Awaits. As above, by a token; a refused one is renewed once: it may have been revoked, or its time was shorter than we were told. */
static int log_in_by_token(struct client *c, struct client_auth *how)
{
    struct buf tokens[2];
    int r = 0;

    how->by_token = true;
    buf_init(&tokens[0], OAUTH_TOKEN_MAX + 1);
    buf_init(&tokens[1], OAUTH_TOKEN_MAX + 1);
    for (unsigned i = 0; i < 2; i++) {
        smtp_reply_clear(&c->reply);
        c->auth_error[0] = '\0';
        r = lookup_relay_token(c->conf, i == 0 ? STR("") : buf_str(&tokens[0]), &tokens[i], c->auth_error);
        how->password = buf_str(&tokens[i]);
        if (r == 0)
            r = client_auth_run(how, c->auth_error);
        if (r != -EACCES || c->reply.code != 535)
            break;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (tokens[i].p != NULL)
            explicit_bzero(tokens[i].p, tokens[i].cap);
        buf_free(&tokens[i]);
    }
    return r;
}

/* Awaits. 0, or -EACCES with the reason in auth_error: then nothing is sent here, as what a login may send nobody else may. */
static int log_in(struct client *c)
{
    struct client_auth how = {
        .mechanisms = c->mechanisms,
        .plain_allowed = stream_is_tls(c->stream) || c->conf->relay_host_auth_allow_cleartext,
        .login = str_of(c->conf->relay_host_user),
        .say = say_secret,
        .arg = c,
        .reply = &c->reply,
    };

    stream_guard(c->stream, true);
    int r = c->conf->relay_host_oauth_token_url[0] != '\0' ? log_in_by_token(c, &how) : log_in_by_password(c, &how);
    stream_guard(c->stream, false);
    if (r == -EACCES)
        log_event(LOG_ERROR, "login-out-failed", LOG_Z("remote", c->remote), LOG_Z("login", c->conf->relay_host_user), LOG_Z("error", c->auth_error));
    return r;
}

/* Awaits all that comes before AUTH. As hello. */
static int introduce(struct client *c, const struct client_security *s, struct str host)
{
    bool tls = s != NULL && s->tls != NULL && s->level != CONF_CLIENT_TLS_NONE;
    int r = tls && s->implicit ? handshake(c, s, host) : 0;
    if (r == 0)
        r = client_read_reply(c, client_deadline(c, c->conf->greeting_timeout_ns));
    if (r < 0)
        return r;
    c->privacy = tls && s->implicit ? CLIENT_PRIVATE : CLIENT_PLAIN;
    if (c->reply.code != 220)                                 /* 2xx of another kind is no welcome, and no delivery either */
        return c->reply.code / 100 == 2 ? client_lost(c, -EBADMSG) : -EREMOTEIO;
    if (!c->lmtp && greets_as_ourselves(c))                   /* the server of our own mailboxes may well have our name */
        return -ELOOP;
    r = hello(c);
    return r < 0 || !tls || s->implicit ? r : start_tls(c, s, host);
}

/* Awaits all that comes before MAIL. */
static int prepare(struct client *c, const struct client_security *s, struct str host)
{
    int r = introduce(c, s, host);
    return r < 0 || s == NULL || !s->login ? r : log_in(c);
}

/* "mx.b.example [192.0.2.1]", "mx.here.example [/run/lmtp]" */
static void put_remote(char out[REMOTE_MAX], const struct client_server *server)
{
    char ip[NET_ADDR_TEXT_MAX];
    struct buf text;
    buf_init_fixed(&text, out, REMOTE_MAX - 1);
    buf_printf(&text, "%" STR_FMT " [%s]", STR_ARG(server->host), server->addr != NULL ? net_addr_format_ip(server->addr, ip) : server->path);
    out[text.n] = '\0';
}

static struct client *client_new(struct stream *stream, const struct client_server *server, struct conf *conf)
{
    struct client *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    put_remote(c->remote, server);
    c->lmtp = server->lmtp;
    c->by_data = server->by_data;
    c->level = server->security != NULL ? server->security->level : CONF_CLIENT_TLS_NONE;
    c->stream = stream;
    c->conf = conf_ref(conf);
    c->usable = true;
    client_begin_due(c);
    smtp_reply_init(&c->reply);
    return c;
}

const char *client_words_for(int error)
{
    switch (error) {
    case -ETIMEDOUT: return "timed out";
    case -EPIPE:     return "the server closed the connection";
    case -EBADMSG:   return "the server's reply is not SMTP";
    case -ECANCELED: return "we are stopping";
    }
    return strerror(-error);
}

/* A refusal in the greeting is about this server now, not about the recipient: 5xx defers as well, and the next MX is tried. */
static void explain(struct client *c, int error, struct arena *a, struct outcome *out)
{
    struct str remote = str_copy(a, str_of(c->remote));
    if (error == -EREMOTEIO) {
        *out = outcome_of_reply(a, &c->reply, remote);
        if (out->state == RCPT_BOUNCED) {
            out->state = RCPT_PENDING;
            out->status = STR("4.3.2");
        }
    } else if (error == -EPROTONOSUPPORT) {                   /* RFC 3463: security features not supported */
        *out = outcome_of_ours(RCPT_PENDING, "4.7.4", "TLS is required here, and the server does not offer it");
        out->remote = remote;
    } else if (error == -EACCES && c->auth_error[0] != '\0') {   /* ours to put right: the mail waits */
        *out = outcome_with_detail(a, RCPT_PENDING, "4.7.0", remote, "cannot log in", c->auth_error);
    } else if (c->tls_error[0] != '\0') {                     /* cryptographic failure */
        *out = outcome_with_detail(a, RCPT_PENDING, "4.7.5", remote, "TLS failed", c->tls_error);
    } else {
        *out = outcome_with_detail(a, RCPT_PENDING, "4.4.2", remote, "no greeting", client_words_for(error));
    }
}

/* TLS was begun and came to nothing, and plain text will do: the server may have taken offence at our last words, so on another connection. */
static bool may_go_without(const struct client *c, const struct client_security *s, int error)
{
    return c->privacy == CLIENT_SHAKING && s->level == CONF_CLIENT_TLS_MAY && !s->implicit && !s->login && error != -ECANCELED && error != -EREMOTEIO;
}

/* The source address is for the world; the server of our mailboxes is at home. */
static int connect_to(const struct client_server *server, const struct conf *conf, struct stream **out)
{
    struct net_addr from;
    int64_t deadline = task_deadline_in(conf->connect_timeout_ns);
    if (server->addr == NULL)
        return net_connect_unix(server->path, deadline, out);
    bool bind_from = !server->lmtp && conf->source_address[0] != '\0' && net_addr_parse(str_of(conf->source_address), 0, &from) &&
                     from.any.sa_family == server->addr->any.sa_family;
    return net_connect(server->addr, bind_from ? &from : NULL, deadline, out);
}

int client_open(const struct client_server *server, struct conf *conf, struct arena *a, struct client **out, struct outcome *out_failure)
{
    struct client_server plain = *server;
    struct stream *stream;
    int r = connect_to(server, conf, &stream);
    plain.security = NULL;
    if (r < 0) {
        char remote[REMOTE_MAX];
        put_remote(remote, server);
        *out_failure = outcome_with_detail(a, RCPT_PENDING, "4.4.1", str_copy(a, str_of(remote)), "cannot connect", client_words_for(r));
        return r;
    }
    struct client *c = client_new(stream, server, conf);
    if (c == NULL) {
        stream_close(stream);
        *out_failure = outcome_of_ours(RCPT_PENDING, "4.3.0", "out of memory");
        return -ENOMEM;
    }
    metric_add(METRIC_connections_out_opened, 1);
    r = prepare(c, server->security, server->host);
    if (r < 0) {
        bool again = may_go_without(c, server->security, r);
        if (again)
            log_event(LOG_WARN, "tls-out-failed", LOG_Z("remote", c->remote), LOG_Z("error", c->tls_error[0] != '\0' ? c->tls_error : client_words_for(r)),
                      LOG_Z("text", "once more without TLS"));
        else
            explain(c, r, a, out_failure);
        client_close(c);
        r = again ? client_open(&plain, conf, a, out, out_failure) : r;
        if (again && r == 0)
            (*out)->level = CONF_CLIENT_TLS_MAY;
        return r;
    }
    c->verified = c->level >= CONF_CLIENT_TLS_VERIFY && stream_is_tls(c->stream);
    c->vouched = c->verified && (server->vouched || c->level == CONF_CLIENT_TLS_SECURE);
    *out = c;
    return 0;
}

void client_close(struct client *c)
{
    if (c == NULL)
        return;
    if (c->usable && !task_canceled()) {
        int64_t deadline = task_deadline_in(QUIT_WAIT_NS);
        if (client_put_command(c, STR("QUIT\r\n")) == 0 && stream_flush(c->stream, deadline) == 0)
            (void)client_read_reply(c, deadline);                    /* courtesy: whatever it says, we leave */
    }
    stream_close(c->stream);
    smtp_reply_free(&c->reply);
    conf_unref(c->conf);
    free(c);
}

bool client_keeps_private(const struct client *c) { return c->vouched && (c->extensions & CLIENT_REQUIRETLS); }

bool client_is_good(const struct client *c)
{
    return c->usable && c->transactions < c->conf->connection_messages_max && (c->mail_max == 0 || c->transactions < c->mail_max);
}

bool client_is_alive(struct client *c)
{
    if (!c->usable || stream_pending(c->stream).n > 0)
        return false;
    return stream_fill(c->stream, clock_mono_ns()) == -ETIMEDOUT;
}
