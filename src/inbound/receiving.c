/*
 * The text of one message in arrival: see receiving.h.
 *
 * It streams through the decoder into the body. A client must keep up data_rate_min, so that none holds its session for ever
 * with a byte now and then. 250 is said after queue_put returned 0, never before: the message is on stable storage then. Runs in
 * the worker, in the session's task.
 */
#include "inbound/receiving.h"
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/log.h"
#include "base/metrics.h"
#include "inbound/extension.h"
#include "inbound/session_internal.h"
#include "inbound/submission.h"
#include "inbound/told.h"
#include "mail/trace.h"
#include "policy/alias.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PIECE_MAX (STREAM_INPUT_MAX + 16)   /* what one input buffer can decode to, with a CR or dot held back before */
#define WHOLE_HEADER_MAX (128 * 1024)       /* of a login's message: it is held as a whole, and no session may grow without end */
#define MUCH_HELD (64 * 1024)               /* of memory for recipients: the body has less then, so that all together stays below 256 KiB */
#define ADDED_MAX 8192                      /* bytes of the fields that a login's header lacked */

static int          put_received(struct receiving *r);
static struct reply cannot_keep(const struct session *s, int error);

static size_t header_max(const struct receiving *r)
{
    size_t max = r->s->conf->header_size_max;
    return !r->header_kept && max > WHOLE_HEADER_MAX ? WHOLE_HEADER_MAX : max;
}

void receiving_begin(struct receiving *r, struct session *s)
{
    r->s = s;
    r->id = queue_new_id(s->shared->queue);
    codec_id_format(r->id, s->transaction.id);
    loop_begin(&r->loop);
    r->tls_required.name = "tls-required";
    buf_init(&r->piece, PIECE_MAX);
    r->header_kept = !s->authenticated;
    buf_init(&r->header, header_max(r) + PIECE_MAX);
    r->body = body_new(s->shared->queue, r->id);
    if (r->body != NULL && s->transaction.arena.used > MUCH_HELD)
        body_keep_small(r->body);
    int error = r->body == NULL ? -ENOMEM : put_received(r);
    if (error < 0)
        receiving_give_up(r, cannot_keep(r->s, error));
}

void receiving_free(struct receiving *r)
{
    body_free(r->body);
    buf_free(&r->piece);
    buf_free(&r->header);
    loop_free(&r->loop);
}

/* The trace field of RFC 5321, 4.4, stands before all that the client sends. */
static int put_received(struct receiving *r)
{
    struct session *s = r->s;
    struct transaction *t = &s->transaction;
    CLEANUP_BUF struct buf field;
    char uid[16];
    struct trace_received received = {
        .helo = str_of(s->helo),
        .rdns = told_name(s),
        .ip = str_of(s->client_ip),
        .by_host = str_of(s->conf->hostname),
        .protocol = str_of(session_protocol(s)),
        .tls_suite = str_of(stream_tls_suite(s->stream)),
        .id = str_of(t->id),
        .wall_ns = clock_wall_ns(),
    };

    if (s->authenticated && s->client.terms.hide_client)
        received.ip = STR("");
    if (s->client.local) {
        snprintf(uid, sizeof uid, "uid %u", s->client.uid);
        received.comment = str_of(uid);      /* how we know who it is: by the kernel's word */
    } else if (stream_is_tls(s->stream)) {
        received.comment = str_of(stream_tls_protocol(s->stream));
    }
    if (t->rcpt_count == 1)
        received.rcpt = t->rcpts[0].rewritten_from.local.n > 0 ? &t->rcpts[0].rewritten_from : &t->rcpts[0].addr;
    if (received.rcpt != NULL && received.rcpt->utf8)
        received.rcpt = NULL;                /* ours stays ASCII: it shall not be what keeps a message from a server without SMTPUTF8 */
    buf_init(&field, 8192);
    trace_put_received(&field, &received);
    return buf_ok(&field) ? body_append(r->body, buf_str(&field)) : -ENOMEM;
}

/* -- the text ------------------------------------------------------------------------------------------------------------ */

void receiving_give_up(struct receiving *r, struct reply why)
{
    if (r->trouble.code != 0)
        return;
    r->trouble = why;
    buf_free(&r->piece);
    buf_free(&r->header);
    body_free(r->body);
    r->body = NULL;
}

/* It is our trouble, not the client's: the operator is told too. */
static struct reply cannot_keep(const struct session *s, int error)
{
    if (error != -EMSGSIZE && error != -ECANCELED && log_is_news(s->shared->not_kept_said_ns))
        log_event(LOG_ERROR, "mail-refused", LOG_Z("error", strerror(-error)), LOG_Z("text", "what comes cannot be kept; clients are asked to try again"));
    switch (error) {
    case -ENOSPC: return reply(452, "4.3.1", "The disk is full; try again later");
    case -EMSGSIZE: return reply(552, "5.3.4", "The message is too big");
    case -ECANCELED: return reply(451, "4.3.2", "The server is stopping; try again later");
    }
    return reply(451, "4.3.0", "The message cannot be kept now; try again later");
}

static struct reply holds_nul(void) { return reply(550, "5.6.11", "The message holds a NUL"); }

static void watch_header(struct receiving *r, uint64_t before)
{
    if (r->header_done || r->trouble.code != 0)
        return;
    r->header_done = r->decoder.header_end > 0;
    uint64_t size = r->header_done ? r->decoder.header_end : r->decoder.bytes;
    struct str fields = str_head(buf_str(&r->piece), (size_t)(size - before));
    struct reply why = loop_see(&r->loop, r->s->conf, fields);   /* the header is not kept: ten thousand sessions may each have a long one */
    field_watch(&r->tls_required, fields);
    if (r->decoder.binary && str_find(fields, '\0') >= 0)       /* RFC 3030, 3: the body may be binary, the header not */
        receiving_give_up(r, holds_nul());
    else if (size > header_max(r))
        receiving_give_up(r, reply(552, "5.3.4", "The header of the message is too big"));
    else if (why.code != 0)
        receiving_give_up(r, why);
}

/* Code 0: so far it may be kept. */
static struct reply check_text(const struct receiving *r)
{
    switch (r->decoder.violation) {
    case DATA_BARE_LF: return reply(550, "5.6.11", "The message holds a bare LF; lines end in CR LF");
    case DATA_BARE_CR: return reply(550, "5.6.11", "The message holds a bare CR; lines end in CR LF");
    case DATA_MORE:
    case DATA_END: break;
    }
    if (r->decoder.has_nul && !r->decoder.binary)    /* RFC 6152, 3; and a hop that drops it could find the end of the text behind it */
        return holds_nul();
    if (r->decoder.bytes > r->s->conf->message_size_max)
        return reply(552, "5.3.4", "The message is too big");
    return buf_ok(&r->piece) ? reply(0, NULL, NULL) : cannot_keep(r->s, -ENOMEM);
}

static void keep(struct receiving *r, struct str bytes)
{
    int error = body_append(r->body, bytes);
    if (error < 0)
        receiving_give_up(r, cannot_keep(r->s, error));
}

/* A login's header, complete or as far as it goes, and what came with its end. Awaits when the body spills to its file. */
static void keep_header(struct receiving *r)
{
    CLEANUP_BUF struct buf added = { .p = NULL };

    if (r->header_kept || r->trouble.code != 0)
        return;
    r->header_kept = true;
    buf_init(&added, ADDED_MAX);
    struct str text = buf_str(&r->header), header = r->header_done ? str_head(text, (size_t)r->decoder.header_end) : text;
    struct reply why = buf_ok(&r->header) ? submission_complete(r->s, header, &added) : cannot_keep(r->s, -ENOMEM);
    if (why.code != 0) {
        receiving_give_up(r, why);
        return;
    }
    keep(r, buf_str(&added));
    if (r->trouble.code == 0)
        keep(r, text);
    buf_free(&r->header);
}

/* Awaits when the body spills to its file. */
static void keep_piece(struct receiving *r, uint64_t before)
{
    if (r->trouble.code != 0)
        return;
    struct reply why = check_text(r);
    if (why.code != 0)
        receiving_give_up(r, why);
    watch_header(r, before);
    if (r->trouble.code != 0)
        return;
    if (r->header_kept)
        keep(r, buf_str(&r->piece));
    else
        buf_put_str(&r->header, buf_str(&r->piece));
    if (r->header_done)
        keep_header(r);
    buf_free(&r->piece);                 /* the next may be long in coming */
}

/* RFC 5321, 4.5.3.2.5 has a limit for each piece; a piece may be a byte. So enough of them must come in that time. */
void receiving_begin_patience(struct receiving *r)
{
    const struct conf *c = r->s->conf;

    r->patience_ns = task_deadline_in(c->data_timeout_ns);
    r->wanted = (uint64_t)c->data_rate_min * (uint64_t)(c->data_timeout_ns / NS_PER_MS) / 1000;
    r->slow = false;
}

static void count_toward_patience(struct receiving *r, size_t n)
{
    if (n == 0)
        return;
    if (n >= r->wanted) {
        receiving_begin_patience(r);
        return;
    }
    r->wanted -= n;
    r->slow = true;
}

static struct reply lost_patience(struct receiving *r, ssize_t n)
{
    if (n == -ETIMEDOUT && r->s->shielded)
        return session_farewell(r->s, 421, "4.3.2", "The server is stopping");
    if (n == -ETIMEDOUT && session_is_overdue(r->s))
        return session_farewell(r->s, 421, "4.4.2", "The message takes too long");
    if (n == -ETIMEDOUT)
        return session_farewell(r->s, 421, "4.4.2", r->slow ? "The message comes too slowly" : "The message stopped coming");
    if (n == -ENOMEM)
        return session_farewell(r->s, 421, "4.3.0", "No memory now; try again later");
    return reply(0, NULL, NULL);
}

bool receiving_take(struct receiving *r, uint64_t max, uint64_t *out_taken)
{
    struct str text = str_head(stream_pending(r->s->stream), max);
    uint64_t before = r->decoder.bytes;
    size_t consumed = 0;
    enum data_result result = DATA_MORE;

    if (text.n > 0) {
        result = data_decode(&r->decoder, text, &consumed, r->trouble.code == 0 ? &r->piece : NULL);
        stream_consume(r->s->stream, consumed);
        keep_piece(r, before);
        count_toward_patience(r, consumed);
    }
    *out_taken = consumed;
    return result != DATA_MORE;
}

bool receiving_await(struct receiving *r, struct reply *out)
{
    int sent = session_flush(r->s);      /* what answers the commands before: a client may wait for it */
    ssize_t n = sent < 0 ? sent : session_fill(r->s, r->patience_ns, false);

    if (n > 0)
        return true;
    *out = lost_patience(r, n);
    return false;
}

/* -- whole, and kept ---------------------------------------------------------------------------------------------------------- */

static void log_accepted(const struct receiving *r, const struct envelope *env)
{
    char sender_bytes[2 * ADDRESS_PATH_MAX];
    struct buf sender;

    buf_init_fixed(&sender, sender_bytes, sizeof sender_bytes);
    address_put_path(&sender, &env->sender);
    log_event(LOG_INFO, "accepted", LOG_Z("id", r->s->transaction.id), LOG_STR("from", buf_str(&sender)), LOG_U64("to", env->rcpt_count),
              LOG_U64("size", env->size), LOG_Z("client", r->s->client.local ? r->s->login : r->s->client_ip), LOG_Z("helo", r->s->helo),
              LOG_Z("protocol", session_protocol(r->s)));
    metric_add(METRIC_messages_accepted, 1);
    metric_add(METRIC_bytes_accepted, (int64_t)env->size);
}

static struct reply put_message(struct receiving *r)
{
    struct session *s = r->s;
    struct transaction *t = &s->transaction;
    struct envelope env = {
        .id = r->id,
        .arrived_ns = clock_wall_ns(),
        .null_sender = t->mail.null_sender,
        .sender = t->mail.sender,
        .rcpts = t->rcpts,
        .rcpt_count = t->rcpt_count,
        .client_ip = str_of(s->client_ip),
        .client_name = told_name(s),
        .helo = str_of(s->helo),
        .login = str_of(s->login),
        .protocol = str_of(session_protocol(s)),
        .envid = t->mail.envid,
        .ret = t->mail.ret,
        .smtputf8 = t->mail.seen & PARAM_SMTPUTF8,
        .body_binary = r->decoder.binary,
        .body_8bit = r->decoder.has_8bit,        /* what it is, not what it was said to be: many say 8BITMIME of everything */
        .size = body_size(r->body),
    };

    if (!env.null_sender)
        (void)alias_rewrite(&s->conf->sender_rewrites, &env.sender, &env.sender);
    wishes_fill(&t->wishes, &env);
    /* RFC 8689, 4.1: the parameter is stronger than the field. Who does not offer the one knows nothing of the other. */
    env.tls_optional = !env.requiretls && !extension_is_off(s, EXTENSION_REQUIRETLS) && field_watch_is(&r->tls_required, STR("No"));
    /* The server may stop meanwhile: what is complete here is still kept, and the client told so. */
    task_shield_begin();
    bool held = s->authenticated && submission_is_too_much(s);
    int error = held ? queue_put_held(s->shared->queue, &env, r->body) : queue_put(s->shared->queue, &env, r->body);
    if (error == 0)
        log_accepted(r, &env);
    if (error == 0 && env.tls_optional)
        log_event(LOG_INFO, "tls-not-required", LOG_Z("id", t->id), LOG_Z("text", "the sender prefers that it arrives"));
    if (error == 0)
        told_log_origin(s);
    if (error == 0 && held)
        submission_tell(s, &env);
    task_shield_end();
    if (error < 0)
        return cannot_keep(s, error);
    s->messages++;
    s->errors = 0;
    session_begin_due(s);
    (void)restraint_take(s, LIMIT_MESSAGES);     /* one beyond it was begun before; it is kept */
    return session_reply(s, 250, "2.0.0", "Queued as %s%s", t->id, held ? ", and held: you have sent too much in this hour" : "");
}

struct reply receiving_end(struct receiving *r)
{
    if (r->decoder.counted)
        (void)data_decode_end(&r->decoder);      /* check_text tells */
    struct reply why = r->trouble.code != 0 ? r->trouble : check_text(r);
    if (why.code == 0)
        why = loop_of_mailboxes(&r->loop, r->s->conf, r->s->transaction.rcpts, r->s->transaction.rcpt_count);
    if (why.code == 0) {
        keep_header(r);
        why = r->trouble;
    }
    return why.code != 0 ? why : put_message(r);
}
