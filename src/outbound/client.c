/*
 * The SMTP client: see client.h.
 *
 * A transaction is written the way it is spoken: MAIL, the recipients, DATA, the text, the final reply. Commands go out in
 * windows, each flushed as one piece where the server pipelines, so that neither side can fill the other's buffers and wait
 * for ever (RFC 2920, 3.1).
 */
#include "outbound/client.h"
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/log.h"
#include "base/metrics.h"
#include "mail/domain.h"
#include "outbound/text.h"
#include "run/stream.h"
#include "smtp/command.h"
#include "smtp/data.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_RCPTS      50             /* recipients in one pipelined write */
#define WIRE_MAX          (1024 * 1024)  /* one piece, converted, with its dots doubled: 32 KiB become 702 at most */
#define QUIT_WAIT_NS      (1 * NS_PER_S)
#define NO_8BITMIME       "the message has 8-bit text and the next server takes only 7-bit (no 8BITMIME)"
#define TOO_LARGE         "the message is larger than the next server takes"
#define TOO_LARGE_IN_7BIT "the message, converted to 7 bits because the next server takes only those, is larger than it takes"
#define FINAL_REPLY_FACTOR 2             /* the final dot's reply may take twice as long as others: 10 minutes (RFC 5321, 4.5.3.2.6) */

/* -- replies ----------------------------------------------------------------------------------------------------------- */

static int lost(struct client *c, int error)
{
    c->usable = false;
    return error;
}

/* At log level debug the whole conversation can be read, line by line. */
static void log_lines(const struct client *c, const char *side, struct str bytes)
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
static int read_reply(struct client *c, int64_t deadline_ns)
{
    smtp_reply_clear(&c->reply);
    for (;;) {
        size_t consumed = 0;
        struct str pending = stream_pending(c->stream);
        enum reply_result result = smtp_parse_reply(pending, &consumed, &c->reply);
        log_lines(c, "said", str_head(pending, consumed));
        stream_consume(c->stream, consumed);
        switch (result) {
        case REPLY_DONE:
            if (c->reply.code == 421)    /* it closes after this one (RFC 5321, 3.8) */
                c->usable = false;
            return 0;
        case REPLY_BAD: return lost(c, -EBADMSG);
        case REPLY_MORE: break;
        }
        ssize_t n = stream_fill(c->stream, deadline_ns);
        if (n <= 0)
            return lost(c, n == 0 ? -EPIPE : (int)n);
    }
}

static int put_text(struct client *c, struct str bytes)
{
    int r = stream_put(c->stream, bytes);
    return r < 0 ? lost(c, r) : 0;
}

static int put_command(struct client *c, struct str line)
{
    log_lines(c, "we_say", line);
    return put_text(c, line);
}

static int flush(struct client *c)
{
    int r = stream_flush(c->stream, task_deadline_in(c->conf->reply_timeout_ns));
    return r < 0 ? lost(c, r) : 0;
}

/* Awaits: one command, one reply. */
static int command(struct client *c, struct str line, int64_t timeout_ns)
{
    int r = put_command(c, line);
    if (r == 0)
        r = flush(c);
    return r < 0 ? r : read_reply(c, task_deadline_in(timeout_ns));
}

/* -- opening ----------------------------------------------------------------------------------------------------------- */

static void note_extension(struct client *c, struct str line)
{
    struct str word, rest;
    str_cut(str_trim(line), ' ', &word, &rest);
    if (str_eq_nocase(word, STR("PIPELINING"))) {
        c->extensions |= CLIENT_PIPELINING;
    } else if (str_eq_nocase(word, STR("8BITMIME"))) {
        c->extensions |= CLIENT_8BITMIME;
    } else if (str_eq_nocase(word, STR("DSN"))) {
        c->extensions |= CLIENT_DSN;
    } else if (str_eq_nocase(word, STR("SIZE"))) {
        c->extensions |= CLIENT_SIZE;
        (void)str_to_u64(str_trim(rest), UINT64_MAX, &c->size_max);   /* SIZE without a number sets no limit (RFC 1870, 4) */
    }
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
    return command(c, buf_str(&b), c->conf->reply_timeout_ns);
}

/* Awaits the greeting and the answer to EHLO. 0, -EREMOTEIO when a reply refused us (it stands in c->reply), or the error. */
static int introduce(struct client *c)
{
    int r = read_reply(c, task_deadline_in(c->conf->greeting_timeout_ns));
    if (r < 0)
        return r;
    if (c->reply.code != 220)                                 /* 2xx of another kind is no welcome, and no delivery either */
        return c->reply.code / 100 == 2 ? lost(c, -EBADMSG) : -EREMOTEIO;
    if (greets_as_ourselves(c))
        return -ELOOP;
    r = say_hello(c, "EHLO");
    if (r < 0)
        return r;
    if (c->reply.code / 100 == 2) {
        note_extensions(c);
        return 0;
    }
    if (c->reply.code / 100 != 5 || !c->usable)
        return -EREMOTEIO;
    r = say_hello(c, "HELO");                                 /* RFC 5321, 3.2: an old server */
    if (r < 0)
        return r;
    return c->reply.code / 100 == 2 ? 0 : -EREMOTEIO;
}

static struct client *client_new(struct stream *stream, const struct net_addr *to, struct str host, struct conf *conf)
{
    struct client *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    char ip[NET_ADDR_TEXT_MAX];
    struct buf remote;
    buf_init_fixed(&remote, c->remote, sizeof(c->remote) - 1);
    buf_printf(&remote, "%" STR_FMT " [%s]", STR_ARG(host), net_addr_format_ip(to, ip));
    c->stream = stream;
    c->conf = conf_ref(conf);
    c->usable = true;
    smtp_reply_init(&c->reply);
    return c;
}

static const char *words_for(int error)
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
    } else {
        *out = outcome_with_detail(a, RCPT_PENDING, "4.4.2", remote, "no greeting", words_for(error));
    }
}

int client_open(const struct net_addr *to, struct str host, struct conf *conf, struct arena *a, struct client **out,
                struct outcome *out_failure)
{
    struct net_addr from;
    bool bind_from = conf->source_address[0] != '\0' && net_addr_parse(str_of(conf->source_address), 0, &from) &&
                     from.any.sa_family == to->any.sa_family;
    struct stream *stream;
    int r = net_connect(to, bind_from ? &from : NULL, task_deadline_in(conf->connect_timeout_ns), &stream);
    if (r < 0) {
        char text[NET_ADDR_TEXT_MAX];
        struct str remote = str_printf(a, "%" STR_FMT " [%s]", STR_ARG(host), net_addr_format_ip(to, text));
        *out_failure = outcome_with_detail(a, RCPT_PENDING, "4.4.1", remote, "cannot connect", words_for(r));
        return r;
    }
    struct client *c = client_new(stream, to, host, conf);
    if (c == NULL) {
        stream_close(stream);
        *out_failure = outcome_of_ours(RCPT_PENDING, "4.3.0", "out of memory");
        return -ENOMEM;
    }
    metric_add(METRIC_connections_out_opened, 1);
    r = introduce(c);
    if (r < 0) {
        explain(c, r, a, out_failure);
        client_close(c);
        return r;
    }
    *out = c;
    return 0;
}

void client_close(struct client *c)
{
    if (c == NULL)
        return;
    if (c->usable && !task_canceled()) {
        int64_t deadline = task_deadline_in(QUIT_WAIT_NS);
        if (put_command(c, STR("QUIT\r\n")) == 0 && stream_flush(c->stream, deadline) == 0)
            (void)read_reply(c, deadline);                    /* courtesy: whatever it says, we leave */
    }
    stream_close(c->stream);
    smtp_reply_free(&c->reply);
    conf_unref(c->conf);
    free(c);
}

bool client_is_good(const struct client *c)
{
    return c->usable && c->transactions < c->conf->connection_messages_max;
}

bool client_is_alive(struct client *c)
{
    if (!c->usable || stream_pending(c->stream).n > 0)
        return false;
    return stream_fill(c->stream, clock_mono_ns()) == -ETIMEDOUT;
}

/* -- a transaction ------------------------------------------------------------------------------------------------------- */

struct transaction {
    struct client            *c;
    const struct client_mail *mail;
    struct arena             *a;
    struct str                remote;
    struct text               text;
    size_t                    answered;      /* recipients with a reply to their RCPT */
    size_t                    accepted;
    size_t                    beyond;        /* too many for this transaction: they stand first among the outcomes */
    bool                      taken;         /* the text, for those accepted */
    bool                      any_reply;
    bool                      reused;        /* the connection has carried another transaction */
    bool                      data_sent;     /* DATA went out with the last window */
};

static void settle_all(struct transaction *t, const struct outcome *o)
{
    for (size_t i = 0; i < t->mail->count; i++)
        if (!outcome_is_set(t->mail->outcomes[i]))
            outcome_assign(t->mail->outcomes[i], o);
}

static void put_mail(struct transaction *t)
{
    const struct envelope *env = &t->mail->claim->env;
    struct mail_args args = { .sender = env->sender, .null_sender = env->null_sender };
    if (t->c->extensions & CLIENT_SIZE) {
        args.seen |= PARAM_SIZE;
        args.size = t->text.size;
    }
    if (env->body_8bit && (t->c->extensions & CLIENT_8BITMIME)) {
        args.seen |= PARAM_BODY;
        args.body = BODY_8BITMIME;
    }
    if (t->c->extensions & CLIENT_DSN) {
        args.seen |= (env->ret != RET_UNSET ? PARAM_RET : 0u) | (env->envid.n > 0 ? PARAM_ENVID : 0u);
        args.ret = env->ret;
        args.envid = env->envid;
    }
    CLEANUP_BUF struct buf line;
    buf_init(&line, SMTP_LINE_MAX);
    smtp_put_mail(&line, &args);
    (void)put_command(t->c, buf_str(&line));                     /* a lost connection shows at the next read */
}

static void put_rcpt(struct transaction *t, size_t i)
{
    const struct envelope *env = &t->mail->claim->env;
    const struct recipient *rcpt = &env->rcpts[t->mail->outcomes[i]->rcpt];
    struct rcpt_args args = { .rcpt = rcpt->addr, .notify = rcpt->notify, .orcpt = rcpt->original };
    if (t->c->extensions & CLIENT_DSN)
        args.seen |= (rcpt->notify != 0 ? PARAM_NOTIFY : 0u) | (rcpt->original.n > 0 ? PARAM_ORCPT : 0u);
    CLEANUP_BUF struct buf line;
    buf_init(&line, SMTP_LINE_MAX);
    smtp_put_rcpt(&line, &args);
    (void)put_command(t->c, buf_str(&line));
}

static int next_reply(struct transaction *t, int64_t timeout_ns)
{
    int r = read_reply(t->c, task_deadline_in(timeout_ns));
    if (r == 0)
        t->any_reply = true;
    return r;
}

static int read_mail_reply(struct transaction *t, bool *out_accepted)
{
    int r = next_reply(t, t->c->conf->reply_timeout_ns);
    if (r < 0)
        return r;
    if (t->reused && t->c->reply.code == 421) {               /* it had been closing while it was kept: no answer about this message */
        t->any_reply = false;
        return -EPIPE;
    }
    struct outcome o = outcome_of_reply(t->a, &t->c->reply, t->remote);
    if (t->c->reply.code == 503) {                            /* out of step: its fault or ours, but not the message's */
        o.state = RCPT_PENDING;
        t->c->usable = false;
    }
    *out_accepted = o.state == RCPT_DELIVERED;
    if (!*out_accepted)
        settle_all(t, &o);
    return 0;
}

/* "Too many recipients", with 552 as its old spelling (RFC 5321, 4.5.3.1.10), and not a full mailbox or disk, which have codes of their own. */
static bool is_too_many(const struct smtp_reply *reply)
{
    return (reply->code == 452 || reply->code == 552) && (reply->enhanced[0] == '\0' || strcmp(reply->enhanced + 1, ".5.3") == 0);
}

static void put_beyond(struct transaction *t, size_t i)
{
    struct outcome **list = t->mail->outcomes, *o = list[i];
    list[i] = list[t->beyond];
    list[t->beyond++] = o;
}

static int read_rcpt_reply(struct transaction *t, bool mail_accepted)
{
    int r = next_reply(t, t->c->conf->reply_timeout_ns);
    if (r < 0)
        return r;
    size_t i = t->answered++;
    if (!mail_accepted)
        return 0;                                             /* it has the refusal of MAIL already */
    struct outcome o = outcome_of_reply(t->a, &t->c->reply, t->remote);
    if (o.state == RCPT_DELIVERED) {
        t->accepted++;
        return 0;
    }
    if (t->c->reply.code == 421) {                            /* it is closing: the end of the transaction, and the reason why */
        settle_all(t, &o);
        return -EPIPE;
    }
    if (t->c->reply.code == 552)
        o.state = RCPT_PENDING;
    outcome_assign(t->mail->outcomes[i], &o);
    if (is_too_many(&t->c->reply))
        put_beyond(t, i);
    return 0;
}

/* Awaits: MAIL, all RCPT, and DATA where it can be pipelined; their replies but DATA's. */
static int send_envelope(struct transaction *t)
{
    struct client *c = t->c;
    bool pipelining = c->extensions & CLIENT_PIPELINING, mail_accepted = false, mail_answered = false;
    size_t put = 0;
    int r;

    put_mail(t);
    if (!pipelining) {
        if ((r = flush(c)) < 0 || (r = read_mail_reply(t, &mail_accepted)) < 0 || !mail_accepted)
            return r;
        mail_answered = true;
    }
    while (put < t->mail->count && (mail_accepted || !mail_answered)) {
        size_t window = pipelining ? WINDOW_RCPTS : 1;
        for (; window > 0 && put < t->mail->count; window--)
            put_rcpt(t, put++);
        if (pipelining && put == t->mail->count) {
            (void)put_command(c, STR("DATA\r\n"));
            t->data_sent = true;
        }
        if ((r = flush(c)) < 0)
            return r;
        if (!mail_answered && (r = read_mail_reply(t, &mail_accepted)) < 0)
            return r;
        mail_answered = true;
        while (t->answered < put)
            if ((r = read_rcpt_reply(t, mail_accepted)) < 0)
                return r;
    }
    return 0;
}

/* The signature's owner will find it broken, and this is where to see why. */
static void log_conversion(const struct transaction *t)
{
    char id[CODEC_ID_LEN + 1];
    bool breaks = convert_breaks_signature(t->text.convert);
    codec_id_format(t->mail->claim->id, id);
    log_event(breaks ? LOG_WARN : LOG_INFO, "converted-to-7bit", LOG_Z("id", id), LOG_Z("remote", t->c->remote),
              LOG_U64("size", t->text.size), LOG_Z("signature", breaks ? "broken" : "none"));
}

/* Awaits: up to the end of the text, with the line with the dot. */
static int send_pieces(struct transaction *t)
{
    CLEANUP_BUF struct buf wire;
    buf_init(&wire, WIRE_MAX);
    struct data_encoder encoder = { 0 };
    struct str piece = STR("");
    int r;
    do {
        if ((r = text_read(&t->text, &piece)) < 0)
            return lost(t->c, r);                             /* in the middle of a text: nothing but closing ends it honestly */
        buf_clear(&wire);
        if (r > 0)
            data_encode(&encoder, piece, &wire);
        else
            data_encode_end(&encoder, &wire);
        if (!buf_ok(&wire))
            return lost(t->c, -ENOMEM);                       /* likewise: it has a hole */
        stream_write_deadline(t->c->stream, task_deadline_in(t->c->conf->reply_timeout_ns));
        int put = put_text(t->c, buf_str(&wire));
        if (put < 0)
            return put;
    } while (r > 0);
    return 0;
}

static int send_text(struct transaction *t)
{
    if (t->text.convert != NULL)
        log_conversion(t);
    int r = send_pieces(t);
    log_lines(t->c, "we_say", STR("(the message, and a line with a dot)"));
    stream_write_deadline(t->c->stream, task_deadline_in(t->c->conf->reply_timeout_ns));
    return r < 0 ? r : flush(t->c);
}

/* Ends a transaction that had no final dot: to the server it is still open, and it would refuse the next MAIL (RFC 5321, 4.1.4). */
static void reset(struct client *c)
{
    if (c->usable && (command(c, STR("RSET\r\n"), c->conf->reply_timeout_ns) < 0 || c->reply.code / 100 != 2))
        c->usable = false;                                    /* the outcomes stand; only the connection is worth nothing more */
}

/* DATA was pipelined, but nobody was accepted: the server should refuse it. One that says 354 all the same is left, for an empty
 * text might be delivered. */
static int skip_data(struct transaction *t)
{
    if (t->data_sent && next_reply(t, t->c->conf->reply_timeout_ns) == 0 && t->c->reply.code == 354)
        (void)lost(t->c, -EBADMSG);
    reset(t->c);
    return 0;
}

static int send_data(struct transaction *t)
{
    if (t->accepted == 0)
        return skip_data(t);
    int r = 0;
    if (!t->data_sent && ((r = put_command(t->c, STR("DATA\r\n"))) < 0 || (r = flush(t->c)) < 0))
        return r;
    if ((r = next_reply(t, t->c->conf->reply_timeout_ns)) < 0)
        return r;
    bool text_sent = t->c->reply.code == 354;
    if (text_sent) {
        int sent = send_text(t);
        /* A server may refuse in the middle and close: its last words are worth more than our EPIPE. */
        if (sent < 0 && sent != -EPIPE && sent != -ECONNRESET)
            return sent;
        if ((r = next_reply(t, t->c->conf->reply_timeout_ns * FINAL_REPLY_FACTOR)) < 0)
            return r;
        if (sent < 0 && t->c->reply.code / 100 == 2)          /* half a message cannot have been taken */
            return sent;
    } else if (t->c->reply.code / 100 == 2) {
        (void)lost(t->c, -EBADMSG);                           /* 2xx to DATA: it is out of step, and nothing was delivered */
        return -EBADMSG;
    }
    struct outcome o = outcome_of_reply(t->a, &t->c->reply, t->remote);
    t->taken = o.state == RCPT_DELIVERED;
    o.dsn_handed_on = t->taken && (t->c->extensions & CLIENT_DSN);
    settle_all(t, &o);
    if (!text_sent)
        reset(t->c);
    return 0;
}

/* Awaits. What this server cannot take is known before a word is said. 1: all outcomes say so; 0: go on; or the error. */
static int refuse_beforehand(struct transaction *t)
{
    const struct client *c = t->c;
    enum convert_verdict verdict;
    struct outcome o;
    int r = text_open(&t->text, t->mail->claim, !(c->extensions & CLIENT_8BITMIME), &verdict);
    if (r == -ECANCELED)
        return r;
    if (r < 0)
        o = outcome_with_detail(t->a, RCPT_PENDING, "4.3.0", t->remote, "we cannot read the message", words_for(r));
    else if (verdict != CONVERT_NOTHING && verdict != CONVERT_POSSIBLE)
        o = outcome_with_detail(t->a, RCPT_BOUNCED, "5.6.3", t->remote, NO_8BITMIME, convert_words(verdict));
    else if ((c->extensions & CLIENT_SIZE) && c->size_max > 0 && t->text.size > c->size_max)
        o = outcome_of_ours(RCPT_BOUNCED, "5.3.4", t->text.convert != NULL ? TOO_LARGE_IN_7BIT : TOO_LARGE);
    else
        return 0;
    o.remote = t->remote;
    settle_all(t, &o);
    return 1;
}

/* Every further transaction has delivered to somebody, so there is an end of them. */
static enum client_sent sent(const struct transaction *t, struct client_mail *mail)
{
    if (!t->taken || t->beyond == 0)
        return CLIENT_SENT;
    mail->count = t->beyond;
    for (size_t i = 0; i < mail->count; i++)
        *mail->outcomes[i] = (struct outcome){ .rcpt = mail->outcomes[i]->rcpt };
    return CLIENT_MORE;
}

static enum client_sent send_message(struct transaction *t, struct client_mail *mail)
{
    int r = refuse_beforehand(t);
    if (r != 0)
        return r < 0 ? CLIENT_CANCELED : CLIENT_SENT;
    t->reused = t->c->transactions++ > 0;
    r = send_envelope(t);
    if (r == 0 && (t->accepted > 0 || t->data_sent || t->c->usable))
        r = send_data(t);
    if (r == 0)
        return sent(t, mail);
    if (r == -ECANCELED)
        return CLIENT_CANCELED;
    if (t->reused && !t->any_reply)
        return CLIENT_STALE;
    struct outcome o = outcome_with_detail(t->a, RCPT_PENDING, "4.4.2", t->remote, "lost connection", words_for(r));
    settle_all(t, &o);
    return CLIENT_SENT;
}

enum client_sent client_send(struct client *c, struct client_mail *mail)
{
    assert(c->usable && mail->count > 0);
    struct transaction t = { .c = c, .mail = mail, .a = &mail->claim->arena };
    t.remote = str_copy(t.a, str_of(c->remote));
    enum client_sent result = send_message(&t, mail);
    text_close(&t.text);
    return result;
}
