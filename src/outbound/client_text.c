/*
 * The text of a transaction of the SMTP client: by BDAT where it is offered (RFC 3030), else by DATA. See client_internal.h.
 *
 * A small message goes in one chunk, behind the recipients where the server pipelines: that is a round trip less than with DATA. A
 * large one goes in several, so that a server that refuses it can say so before all of it has come.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/log.h"
#include "outbound/client_internal.h"
#include "run/stream.h"
#include "smtp/data.h"
#include <errno.h>

#define WIRE_MAX           (1024 * 1024) /* one piece, converted, with its dots doubled: 32 KiB become 702 at most */
#define CHUNK_MAX          (1024 * 1024)
#define EARLY_MAX          (32 * 1024)   /* of a text sent behind the recipients: what is lost if nobody is accepted, and fits in the buffers between */
#define FINAL_REPLY_FACTOR 2             /* the final dot's reply may take twice as long as others: 10 minutes (RFC 5321, 4.5.3.2.6) */

/* The signature's owner will find it broken, and this is where to see why. */
static void log_conversion(const struct transaction *t)
{
    char id[CODEC_ID_LEN + 1];
    bool breaks = convert_breaks_signature(t->text.convert);
    codec_id_format(t->mail->claim->id, id);
    log_event(breaks ? LOG_WARN : LOG_INFO, "converted-to-7bit", LOG_Z("id", id), LOG_Z("remote", t->c->remote),
              LOG_U64("size", t->text.size), LOG_Z("signature", breaks ? "broken" : "none"));
}

static void begin_text(struct transaction *t)
{
    if (t->text.convert != NULL)
        log_conversion(t);
}

static int final_reply(struct transaction *t)
{
    return transaction_reply(t, t->c->conf->reply_timeout_ns * FINAL_REPLY_FACTOR);
}

/* The last reply is about one recipient, or (NULL) about all that were accepted. */
static void settle_by_reply(struct transaction *t, struct outcome *of)
{
    struct outcome o = outcome_of_reply(t->a, &t->c->reply, t->remote);
    bool taken = o.state == RCPT_DELIVERED;
    o.dsn_handed_on = taken && (t->c->extensions & CLIENT_DSN);
    o.by_handed_on = taken && (t->c->extensions & CLIENT_DELIVERBY);
    o.in_mailbox = taken && t->c->lmtp;
    t->taken |= taken;
    if (of != NULL)
        outcome_assign(of, &o);
    else
        transaction_settle(t, &o);
}

/* The last reply is the answer to the text. In LMTP it is the first of them, and the others are awaited: one for each recipient accepted, in
 * the order of their RCPT (RFC 2033, 4.2). Those that it owes when it closes stay without. */
static int settle_text(struct transaction *t)
{
    for (size_t answers = 1;; answers++) {
        bool of_all = !t->c->lmtp || t->c->reply.code == 421;
        settle_by_reply(t, of_all ? NULL : t->in_turn[answers - 1]);
        if (of_all || answers == t->accepted)
            return 0;
        int r = final_reply(t);
        if (r < 0)
            return r;
    }
}

/* Ends a transaction that had no final dot: to the server it is still open, and it would refuse the next MAIL (RFC 5321, 4.1.4). */
static void reset(struct client *c)
{
    if (c->usable && (client_command(c, STR("RSET\r\n"), c->conf->reply_timeout_ns) < 0 || c->reply.code / 100 != 2))
        c->usable = false;                                    /* the outcomes stand; only the connection is worth nothing more */
}

/* -- DATA ------------------------------------------------------------------------------------------------------------------ */

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
            return client_lost(t->c, r);                             /* in the middle of a text: nothing but closing ends it honestly */
        buf_clear(&wire);
        if (r > 0)
            data_encode(&encoder, piece, &wire);
        else
            data_encode_end(&encoder, &wire);
        if (!buf_ok(&wire))
            return client_lost(t->c, -ENOMEM);                       /* likewise: it has a hole */
        stream_write_deadline(t->c->stream, client_deadline(t->c, t->c->conf->reply_timeout_ns));
        int put = client_put(t->c, buf_str(&wire));
        if (put < 0)
            return put;
    } while (r > 0);
    return 0;
}

static int send_text(struct transaction *t)
{
    begin_text(t);
    int r = send_pieces(t);
    client_log_lines(t->c, "we_say", STR("(the message, and a line with a dot)"));
    stream_write_deadline(t->c->stream, client_deadline(t->c, t->c->conf->reply_timeout_ns));
    return r < 0 ? r : client_flush(t->c);
}

static int send_data(struct transaction *t)
{
    int r = 0;
    if (!t->data_sent && ((r = client_put_command(t->c, STR("DATA\r\n"))) < 0 || (r = client_flush(t->c)) < 0))
        return r;
    if ((r = transaction_reply(t, t->c->conf->reply_timeout_ns)) < 0)
        return r;
    if (t->c->reply.code == 354) {
        int sent = send_text(t);
        if (sent < 0 && !client_may_have_words(sent))
            return sent;
        if ((r = final_reply(t)) < 0)
            return r;
        if (sent == 0)
            return settle_text(t);
        if (t->c->reply.code / 100 == 2)                      /* half a message cannot have been taken */
            return sent;
        settle_by_reply(t, NULL);
        return 0;
    }
    if (t->c->reply.code / 100 == 2)
        return client_lost(t->c, -EBADMSG);                   /* 2xx to DATA: it is out of step, and nothing was delivered */
    settle_by_reply(t, NULL);
    reset(t->c);
    return 0;
}

/* -- BDAT ------------------------------------------------------------------------------------------------------------------ */

/* Awaits: n octets of the text. */
static int put_octets(struct transaction *t, uint64_t n)
{
    while (n > 0) {
        int r = t->piece.n > 0 ? 1 : text_read(&t->text, &t->piece);
        if (r <= 0)
            return client_lost(t->c, r < 0 ? r : -EIO);       /* the server counts on them: nothing but closing ends it honestly */
        struct str part = str_head(t->piece, n);
        stream_write_deadline(t->c->stream, client_deadline(t->c, t->c->conf->reply_timeout_ns));
        if ((r = client_put(t->c, part)) < 0)
            return r;
        t->piece = str_from(t->piece, part.n);
        n -= part.n;
    }
    return 0;
}

/* Awaits: the next chunk of the text. It is the last when t->unsent is 0 then. */
static int put_chunk(struct transaction *t)
{
    char line[64];
    struct buf b;
    uint64_t n = t->unsent < CHUNK_MAX ? t->unsent : CHUNK_MAX;
    t->unsent -= n;
    buf_init_fixed(&b, line, sizeof(line));
    buf_printf(&b, "BDAT %llu%s\r\n", (unsigned long long)n, t->unsent == 0 ? " LAST" : "");
    int r = client_put_command(t->c, buf_str(&b));
    if (r == 0)
        r = put_octets(t, n);
    t->chunks_unanswered++;
    return r;
}

/* Awaits. More is not unanswered at a time, so that neither side fills the other's buffers, and what is sent in vain has an end. */
static int read_chunk_replies(struct transaction *t, unsigned unanswered, bool *out_refused)
{
    while (t->chunks_unanswered > unanswered) {
        bool last = t->unsent == 0 && t->chunks_unanswered == 1;
        int r = last ? final_reply(t) : transaction_reply(t, t->c->conf->reply_timeout_ns);
        if (r < 0)
            return r;
        t->chunks_unanswered--;
        *out_refused = t->c->reply.code / 100 != 2;
        if (*out_refused)
            return 0;
    }
    return 0;
}

/* Those behind a refused chunk are refused too, and the transaction is over when we say so (RFC 3030, 2). */
static void end_refused(struct transaction *t)
{
    if (t->c->lmtp && t->chunks_unanswered > 0) {             /* how often does it refuse the last one? Nobody says */
        (void)client_lost(t->c, -EBADMSG);
        return;
    }
    while (t->chunks_unanswered > 0 && t->c->usable && transaction_reply(t, t->c->conf->reply_timeout_ns) == 0)
        t->chunks_unanswered--;
    if (t->chunks_unanswered == 0)
        reset(t->c);
}

/* whole: the refusal is the answer to the last chunk. A server that does not know BDAT after all, or is out of step, says nothing about the message. */
static int settle_refused(struct transaction *t, bool whole)
{
    int code = t->c->reply.code;
    if (code != 500 && code != 502 && code != 503) {
        int r = 0;
        if (whole)
            r = settle_text(t);
        else
            settle_by_reply(t, NULL);
        end_refused(t);
        return r;
    }
    t->c->bdat_unknown = true;
    (void)client_lost(t->c, -EBADMSG);                        /* and the octets were read as commands, perhaps */
    return 0;
}

static int send_chunks(struct transaction *t)
{
    unsigned ahead = t->c->extensions & CLIENT_PIPELINING ? 1 : 0;
    bool refused = false;
    int sent = 0;
    if (!t->chunk_sent)
        begin_text(t);
    for (bool first = !t->chunk_sent; sent == 0 && !refused && (first || t->unsent > 0); first = false) {
        if ((sent = put_chunk(t)) == 0)
            sent = client_flush(t->c);
        int r = sent < 0 ? 0 : read_chunk_replies(t, ahead, &refused);
        if (r < 0)
            return r;
    }
    if (sent < 0 && !client_may_have_words(sent))
        return sent;
    int r = refused ? 0 : read_chunk_replies(t, 0, &refused);
    if (r < 0 || (sent < 0 && !refused))
        return r < 0 ? r : sent;
    if (refused)
        return settle_refused(t, sent == 0 && t->unsent == 0 && t->chunks_unanswered == 0);
    return settle_text(t);
}

/* Awaits: the whole text in a buffer, before a word of it is said. */
static int read_early(struct transaction *t, struct buf *out)
{
    int r;
    while ((r = text_read(&t->text, &t->piece)) > 0)
        buf_put_str(out, t->piece);
    t->piece = STR("");
    return r == 0 && !buf_ok(out) ? -ENOMEM : r;
}

/* -- both ------------------------------------------------------------------------------------------------------------------ */

int transaction_pipeline_text(struct transaction *t)
{
    if (!t->by_chunks) {
        t->data_sent = true;
        return client_put_command(t->c, STR("DATA\r\n"));
    }
    if (t->text.size > EARLY_MAX)
        return 0;
    CLEANUP_BUF struct buf text;
    buf_init(&text, EARLY_MAX);
    begin_text(t);
    int r = read_early(t, &text);
    if (r < 0)
        return client_lost(t->c, r);
    t->chunk_sent = true;
    t->piece = buf_str(&text);
    return put_chunk(t);
}

/* The text, or DATA, was pipelined, but nobody was accepted: the server should refuse it. One that says 354 all the same is left, for
 * an empty text might be delivered. */
static int skip_text(struct transaction *t)
{
    if ((t->data_sent || t->chunk_sent) && transaction_reply(t, t->c->conf->reply_timeout_ns) == 0 && t->c->reply.code == 354)
        (void)client_lost(t->c, -EBADMSG);
    reset(t->c);
    return 0;
}

int transaction_send_text(struct transaction *t)
{
    if (t->accepted == 0)
        return skip_text(t);
    return t->by_chunks ? send_chunks(t) : send_data(t);
}
