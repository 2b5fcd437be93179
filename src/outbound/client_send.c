/*
 * A transaction of the SMTP client: what the server can take, MAIL and the recipients, the outcomes. See client.h.
 *
 * It is written the way it is spoken: MAIL, the recipients, the text (client_text.c), the final reply. Commands go out in
 * windows, each flushed as one piece where the server pipelines, so that neither side can fill the other's buffers and wait
 * for ever (RFC 2920, 3.1).
 */
#include "base/cleanup.h"
#include "outbound/client_internal.h"
#include "smtp/command.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_RCPTS      50             /* recipients in one pipelined write */
#define NO_8BITMIME       "the message has 8-bit text and the next server takes only 7-bit (no 8BITMIME)"
#define NO_BINARYMIME     "the message is binary, and the next server takes only text (no BINARYMIME)"
#define NO_UTF8_SENDER    "the sender's address is not ASCII, and the next server takes only such ones (no SMTPUTF8)"
#define NO_UTF8_RCPT      "the address is not ASCII, and the next server takes only such ones (no SMTPUTF8)"
#define NO_UTF8_HEADER    "the message has UTF-8 in its header, and the next server takes only ASCII there (no SMTPUTF8)"
#define TOO_LARGE         "the message is larger than the next server takes"
#define TOO_LARGE_IN_7BIT "the message, converted to 7 bits because the next server takes no more, is larger than it takes"

void transaction_settle(struct transaction *t, const struct outcome *o)
{
    for (size_t i = 0; i < t->mail->count; i++)
        if (!outcome_is_set(t->mail->outcomes[i]))
            outcome_assign(t->mail->outcomes[i], o);
}

static bool takes_binary(const struct client *c)
{
    return (c->extensions & CLIENT_CHUNKING) && (c->extensions & CLIENT_BINARYMIME);   /* RFC 3030, 3: only the two together */
}

static enum text_taken what_it_takes(const struct client *c)
{
    return takes_binary(c) ? TEXT_BINARY : c->extensions & CLIENT_8BITMIME ? TEXT_8BIT : TEXT_7BIT;
}

static enum smtp_body body_kind(const struct transaction *t)
{
    const struct envelope *env = &t->mail->claim->env;
    bool takes_8bit = t->c->extensions & CLIENT_8BITMIME;
    if (t->text.convert != NULL)
        return BODY_UNSET;
    if (takes_binary(t->c) && (env->body_binary || (env->body_8bit && !takes_8bit)))
        return BODY_BINARYMIME;
    return env->body_8bit && takes_8bit ? BODY_8BITMIME : BODY_UNSET;
}

/* Likewise, and those who would have come in further transactions. */
static void settle_whole(struct transaction *t, const struct outcome *o)
{
    for (size_t i = 0; i < t->whole->count; i++)
        if (!outcome_is_set(t->whole->outcomes[i]))
            outcome_assign(t->whole->outcomes[i], o);
}

/* Half a command would be one with the next, and a missing one would leave its reply to another: without memory for it the connection ends. */
static int put_line(struct transaction *t, const struct buf *line)
{
    if (!buf_ok(line))
        return client_lost(t->c, -ENOMEM);
    (void)client_put_command(t->c, buf_str(line));                      /* a lost connection shows at the next read */
    return 0;
}

static int put_mail(struct transaction *t)
{
    const struct envelope *env = &t->mail->claim->env;
    struct mail_args args = { .sender = env->sender, .null_sender = env->null_sender };
    if (t->c->extensions & CLIENT_SIZE) {
        args.seen |= PARAM_SIZE;
        args.size = t->text.size;
    }
    args.body = body_kind(t);
    args.seen |= args.body != BODY_UNSET ? PARAM_BODY : 0u;
    args.seen |= t->utf8 ? PARAM_SMTPUTF8 : 0u;
    if (t->c->extensions & CLIENT_DSN) {
        args.seen |= (env->ret != RET_UNSET ? PARAM_RET : 0u) | (env->envid.n > 0 ? PARAM_ENVID : 0u);
        args.ret = env->ret;
        args.envid = env->envid;
    }
    client_put_wishes(t->c, env, &args);
    CLEANUP_BUF struct buf line;
    buf_init(&line, SMTP_LINE_MAX);
    smtp_put_mail(&line, &args);
    return put_line(t, &line);
}

static int put_rcpt(struct transaction *t, size_t i)
{
    const struct envelope *env = &t->mail->claim->env;
    const struct recipient *rcpt = &env->rcpts[t->mail->outcomes[i]->rcpt];
    struct rcpt_args args = { .rcpt = rcpt->addr, .notify = rcpt->notify, .orcpt = rcpt->original };
    if (t->c->extensions & CLIENT_DSN)
        args.seen |= (rcpt->notify != 0 ? PARAM_NOTIFY : 0u) | (rcpt->original.n > 0 ? PARAM_ORCPT : 0u);
    CLEANUP_BUF struct buf line;
    buf_init(&line, SMTP_LINE_MAX);
    smtp_put_rcpt(&line, &args);
    return put_line(t, &line);
}

int transaction_reply(struct transaction *t, int64_t timeout_ns)
{
    int r = client_read_reply(t->c, client_deadline(t->c, timeout_ns));
    if (r == 0)
        t->any_reply = true;
    return r;
}

static int read_mail_reply(struct transaction *t, bool *out_accepted)
{
    int r = transaction_reply(t, t->c->conf->reply_timeout_ns);
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
        settle_whole(t, &o);
    return 0;
}

/* "Too many recipients", with 552 as its old spelling (RFC 5321, 4.5.3.1.10), and not a full mailbox or disk, which have codes of their own. */
static bool is_too_many(const struct smtp_reply *reply)
{
    return (reply->code == 452 || reply->code == 552) && (reply->enhanced[0] == '\0' || strcmp(reply->enhanced + 1, ".5.3") == 0);
}

/* "5.2.2": this one will not become better by waiting for the next transaction. */
static bool is_about_mailbox(const struct smtp_reply *reply)
{
    return strncmp(reply->enhanced, "5.2.", 4) == 0;
}

static void put_beyond(struct transaction *t, size_t i)
{
    struct outcome **list = t->mail->outcomes, *o = list[i];
    list[i] = list[t->beyond];
    list[t->beyond++] = o;
}

static int read_rcpt_reply(struct transaction *t, bool mail_accepted)
{
    int r = transaction_reply(t, t->c->conf->reply_timeout_ns);
    if (r < 0)
        return r;
    size_t i = t->answered++;
    if (!mail_accepted)
        return 0;                                             /* it has the refusal of MAIL already */
    struct outcome o = outcome_of_reply(t->a, &t->c->reply, t->remote);
    if (o.state == RCPT_DELIVERED) {
        if (t->in_turn != NULL)
            t->in_turn[t->accepted] = t->mail->outcomes[i];
        t->accepted++;
        return 0;
    }
    if (t->c->reply.code == 421) {                            /* it is closing: the end of the transaction, and the reason why */
        settle_whole(t, &o);
        return -EPIPE;
    }
    if (t->c->reply.code == 552 && !is_about_mailbox(&t->c->reply))
        o.state = RCPT_PENDING;
    outcome_assign(t->mail->outcomes[i], &o);
    if (is_too_many(&t->c->reply))
        put_beyond(t, i);
    return 0;
}

/* Awaits: MAIL, all RCPT, and DATA or a small text where it can be pipelined; the replies but those to the text. */
static int send_envelope(struct transaction *t)
{
    struct client *c = t->c;
    bool pipelining = c->extensions & CLIENT_PIPELINING, mail_accepted = false, mail_answered = false;
    size_t put = 0;
    int r = put_mail(t);

    if (r < 0)
        return r;
    if (!pipelining) {
        if ((r = client_flush(c)) < 0 || (r = read_mail_reply(t, &mail_accepted)) < 0 || !mail_accepted)
            return r;
        mail_answered = true;
    }
    while (put < t->mail->count && (mail_accepted || !mail_answered)) {
        size_t window = pipelining ? WINDOW_RCPTS : 1;
        for (; window > 0 && put < t->mail->count; window--)
            if ((r = put_rcpt(t, put++)) < 0)
                return r;
        r = pipelining && put == t->mail->count ? transaction_pipeline_text(t) : 0;
        if (r == 0)
            r = client_flush(c);
        if (r < 0 && !client_may_have_words(r))
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

/* -- SMTPUTF8 (RFC 6531) --------------------------------------------------------------------------------------------------- */

static const struct address *address_of(const struct client_mail *mail, size_t i)
{
    return &mail->claim->env.rcpts[mail->outcomes[i]->rcpt].addr;
}

static bool is_international(const struct client_mail *mail)
{
    bool any = mail->claim->env.smtputf8 || mail->claim->env.sender.utf8;
    for (size_t i = 0; i < mail->count; i++)
        any |= address_of(mail, i)->utf8;
    return any;
}

/* Domains have an ASCII form always, local parts not: what they say only their host knows. */
static void refuse_utf8_rcpts(struct transaction *t, struct client_mail *mail)
{
    struct outcome o = outcome_of_ours(RCPT_BOUNCED, "5.6.7", NO_UTF8_RCPT), **list = mail->outcomes;
    size_t kept = 0;
    o.remote = t->remote;
    for (size_t i = 0; i < mail->count; i++) {
        struct outcome *one = list[i];
        if (address_of(mail, i)->utf8) {
            outcome_assign(one, &o);
            continue;
        }
        list[i] = list[kept];
        list[kept++] = one;
    }
    mail->count = kept;
}

/* Awaits. As an ASCII message, if it can be one: then MAIL is said without SMTPUTF8, and nothing else is other. 1: nobody is left to send
 * to; 0: go on; or the error. */
static int downgrade(struct transaction *t, struct client_mail *mail)
{
    bool ascii_header = true;
    int r = mail->claim->env.smtputf8 ? text_header_is_ascii(mail->claim, &ascii_header) : 0;
    if (r == -ECANCELED)
        return r;
    struct outcome o;
    if (r < 0)
        o = outcome_with_detail(t->a, RCPT_PENDING, "4.3.0", t->remote, "we cannot read the message", client_words_for(r));
    else if (mail->claim->env.sender.utf8 || !ascii_header)
        o = outcome_of_ours(RCPT_BOUNCED, "5.6.7", mail->claim->env.sender.utf8 ? NO_UTF8_SENDER : NO_UTF8_HEADER);
    else {
        refuse_utf8_rcpts(t, mail);
        return mail->count == 0;
    }
    o.remote = t->remote;
    settle_whole(t, &o);
    return 1;
}

static int choose_utf8(struct transaction *t, struct client_mail *mail)
{
    if (!is_international(mail))
        return 0;
    t->utf8 = t->c->extensions & CLIENT_SMTPUTF8;
    return t->utf8 ? 0 : downgrade(t, mail);
}

/* -- the whole --------------------------------------------------------------------------------------------------------------- */

/* Awaits. What this server cannot take is known before a word is said. 1: all outcomes say so; 0: go on; or the error. */
static int refuse_beforehand(struct transaction *t)
{
    const struct client *c = t->c;
    enum convert_verdict verdict;
    struct outcome o;
    enum text_taken taken = what_it_takes(c);
    int r = text_open(&t->text, t->mail->claim, taken, &verdict);
    if (r == -ECANCELED)
        return r;
    if (r < 0)
        o = outcome_with_detail(t->a, RCPT_PENDING, "4.3.0", t->remote, "we cannot read the message", client_words_for(r));
    else if (verdict != CONVERT_NOTHING && verdict != CONVERT_POSSIBLE)
        o = outcome_with_detail(t->a, RCPT_BOUNCED, "5.6.3", t->remote, t->mail->claim->env.body_binary ? NO_BINARYMIME : NO_8BITMIME, convert_words(verdict));
    else if ((c->extensions & CLIENT_SIZE) && c->size_max > 0 && t->text.size > c->size_max)
        o = outcome_of_ours(RCPT_BOUNCED, "5.3.4", t->text.convert != NULL ? TOO_LARGE_IN_7BIT : TOO_LARGE);
    else if (!client_refuses(c, &t->mail->claim->env, &o))
        return 0;
    o.remote = t->remote;
    settle_whole(t, &o);
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
    int r = choose_utf8(t, mail);
    if (r == 0)
        r = refuse_beforehand(t);
    if (r != 0)
        return r < 0 ? CLIENT_CANCELED : CLIENT_SENT;
    if (t->c->lmtp && (t->in_turn = calloc(mail->count, sizeof(*t->in_turn))) == NULL) {
        struct outcome o = outcome_of_ours(RCPT_PENDING, "4.3.0", "out of memory");
        settle_whole(t, &o);
        return CLIENT_SENT;
    }
    t->reused = t->c->transactions++ > 0;
    client_begin_due(t->c);
    t->by_chunks = t->c->extensions & CLIENT_CHUNKING;
    t->unsent = t->text.size;
    r = send_envelope(t);
    if (r == 0 && (t->accepted > 0 || t->data_sent || t->chunk_sent || t->c->usable))
        r = transaction_send_text(t);
    if (r == 0)
        return sent(t, mail);
    if (r == -ECANCELED)
        return CLIENT_CANCELED;
    if (t->reused && !t->any_reply)
        return CLIENT_STALE;
    struct outcome o = outcome_with_detail(t->a, RCPT_PENDING, "4.4.2", t->remote, "lost connection", client_words_for(r));
    settle_whole(t, &o);
    return CLIENT_SENT;
}

/* Those from..to have been refused, whatever becomes of the others: they go behind the end. */
static void drop_refused(struct client_mail *mail, size_t from, size_t to)
{
    struct outcome **list = mail->outcomes;
    for (size_t i = to; i < mail->count; i++) {
        struct outcome *refused = list[from + i - to];
        list[from + i - to] = list[i];
        list[i] = refused;
    }
    mail->count -= to - from;
}

/* To the first `limit` of them. mail then holds those who are left for a further transaction. */
static enum client_sent send_part(struct client *c, struct client_mail *mail, size_t limit)
{
    struct client_mail part = { .claim = mail->claim, .outcomes = mail->outcomes, .count = limit };
    struct transaction t = { .c = c, .mail = &part, .whole = mail, .a = &mail->claim->arena };
    t.remote = str_copy(t.a, str_of(c->remote));
    enum client_sent result = send_message(&t, &part);
    text_close(&t.text);
    free(t.in_turn);
    if (result == CLIENT_STALE)
        drop_refused(mail, part.count, limit);
    if (result == CLIENT_STALE || result == CLIENT_CANCELED)
        return result;
    size_t again = result == CLIENT_MORE ? part.count : 0;    /* they stand first, and go before those who were not tried */
    for (size_t i = again; i-- > 0;) {
        struct outcome *o = mail->outcomes[i];
        mail->outcomes[i] = mail->outcomes[limit - again + i];
        mail->outcomes[limit - again + i] = o;
    }
    mail->outcomes += limit - again;
    mail->count -= limit - again;
    return mail->count == 0 || outcome_is_set(mail->outcomes[0]) ? CLIENT_SENT : CLIENT_MORE;
}

enum client_sent client_send(struct client *c, struct client_mail *mail)
{
    assert(c->usable && mail->count > 0);
    bool limited = c->rcpt_max > 0 && c->rcpt_max < mail->count;      /* RFC 9422, 5.3 */
    return send_part(c, mail, limited ? c->rcpt_max : mail->count);
}
