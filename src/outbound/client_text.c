/*
 * The text of a transaction of the SMTP client. See client_internal.h.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/log.h"
#include "outbound/client_internal.h"
#include "run/stream.h"
#include "smtp/data.h"
#include <errno.h>

#define WIRE_MAX           (1024 * 1024) /* one piece, converted, with its dots doubled: 32 KiB become 702 at most */
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
        stream_write_deadline(t->c->stream, task_deadline_in(t->c->conf->reply_timeout_ns));
        int put = client_put(t->c, buf_str(&wire));
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
    client_log_lines(t->c, "we_say", STR("(the message, and a line with a dot)"));
    stream_write_deadline(t->c->stream, task_deadline_in(t->c->conf->reply_timeout_ns));
    return r < 0 ? r : client_flush(t->c);
}

/* Ends a transaction that had no final dot: to the server it is still open, and it would refuse the next MAIL (RFC 5321, 4.1.4). */
static void reset(struct client *c)
{
    if (c->usable && (client_command(c, STR("RSET\r\n"), c->conf->reply_timeout_ns) < 0 || c->reply.code / 100 != 2))
        c->usable = false;                                    /* the outcomes stand; only the connection is worth nothing more */
}

/* DATA was pipelined, but nobody was accepted: the server should refuse it. One that says 354 all the same is left, for an empty
 * text might be delivered. */
static int skip_data(struct transaction *t)
{
    if (t->data_sent && transaction_reply(t, t->c->conf->reply_timeout_ns) == 0 && t->c->reply.code == 354)
        (void)client_lost(t->c, -EBADMSG);
    reset(t->c);
    return 0;
}

int transaction_send_data(struct transaction *t)
{
    if (t->accepted == 0)
        return skip_data(t);
    int r = 0;
    if (!t->data_sent && ((r = client_put_command(t->c, STR("DATA\r\n"))) < 0 || (r = client_flush(t->c)) < 0))
        return r;
    if ((r = transaction_reply(t, t->c->conf->reply_timeout_ns)) < 0)
        return r;
    bool text_sent = t->c->reply.code == 354;
    if (text_sent) {
        int sent = send_text(t);
        /* A server may refuse in the middle and close: its last words are worth more than our EPIPE. */
        if (sent < 0 && sent != -EPIPE && sent != -ECONNRESET)
            return sent;
        if ((r = transaction_reply(t, t->c->conf->reply_timeout_ns * FINAL_REPLY_FACTOR)) < 0)
            return r;
        if (sent < 0 && t->c->reply.code / 100 == 2)          /* half a message cannot have been taken */
            return sent;
    } else if (t->c->reply.code / 100 == 2) {
        (void)client_lost(t->c, -EBADMSG);                           /* 2xx to DATA: it is out of step, and nothing was delivered */
        return -EBADMSG;
    }
    struct outcome o = outcome_of_reply(t->a, &t->c->reply, t->remote);
    t->taken = o.state == RCPT_DELIVERED;
    o.dsn_handed_on = t->taken && (t->c->extensions & CLIENT_DSN);
    transaction_settle(t, &o);
    if (!text_sent)
        reset(t->c);
    return 0;
}
