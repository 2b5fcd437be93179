/*
 * Bounces: see bounce.h. The human part says in plain words what happened, before the part for programs.
 */
#include "outbound/bounce.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/codec.h"
#include "mail/date.h"
#include "mail/header.h"
#include "mail/mime.h"
#include <errno.h>
#include <string.h>

#define ORIGINAL_MAX (64 * 1024)         /* of the original's header that is sent back */
#define WORDS_MAX    800                 /* of a remote's words on one line of ours, which has 998 (RFC 5322, 2.1.1) */
#define LINE_MAX_7BIT 998
#define DSN_MAX      (16 * 1024 * 1024)  /* thousands of recipients with a text each */

static bool owed(const struct claim *c, const struct outcome *o)
{
    const struct recipient *rcpt = &c->env.rcpts[o->rcpt];
    return !c->env.null_sender && (rcpt->notify == 0 || (rcpt->notify & NOTIFY_FAILURE));
}

/* -- the text ------------------------------------------------------------------------------------------------------------ */

static void put_address_text(struct buf *out, const struct address *addr)
{
    address_put(out, addr);
}

/* One line of a remote's words within our text: whatever it says, it stays one line of printable ASCII. */
static void put_words(struct buf *out, struct str words)
{
    words = str_head(words, WORDS_MAX);
    for (size_t i = 0; i < words.n; i++)
        buf_put_char(out, words.p[i] >= 0x20 && words.p[i] < 0x7f ? words.p[i] : '?');
}

static size_t count_bounced(const struct outcome *outcomes, size_t count)
{
    size_t bounced = 0;
    for (size_t i = 0; i < count; i++)
        bounced += outcomes[i].state == RCPT_BOUNCED;
    return bounced;
}

/* A server's own words begin with the code of its reply; ours about a server do not. */
static bool is_reply(struct str text)
{
    return text.n > 3 && text.p[3] == ' ' && str_to_u64(str_head(text, 3), 599, &(uint64_t){ 0 });
}

/* Given up although the last answer was no final one. */
static bool is_expired(const struct outcome *o)
{
    return str_starts(o->status, STR("4."));
}

static void put_reason(struct buf *out, const struct outcome *o)
{
    if (is_expired(o))
        buf_put_z(out, "    It could not be delivered in time. The last answer was:\r\n");
    if (o->remote.n > 0) {
        buf_put_z(out, is_reply(o->text) ? "    " : "    at ");
        put_words(out, o->remote);
        buf_put_z(out, is_reply(o->text) ? " said:\r\n" : ":\r\n");
    }
    buf_put_z(out, "    ");
    put_words(out, o->text);
    buf_put_z(out, "\r\n");
}

static void put_plain_words(struct buf *out, const struct conf *conf, const struct claim *c, const struct outcome *outcomes, size_t count)
{
    buf_printf(out,
               "This is the mail server %s.\r\n\r\n"
               "Your message could not be delivered to the following recipient%s.\r\n"
               "It has been given up; nothing more will be tried.\r\n",
               conf->hostname, count_bounced(outcomes, count) == 1 ? "" : "s");
    for (size_t i = 0; i < count; i++) {
        if (outcomes[i].state != RCPT_BOUNCED)
            continue;
        buf_put_z(out, "\r\n  <");
        put_address_text(out, &c->env.rcpts[outcomes[i].rcpt].addr);
        buf_put_z(out, ">\r\n");
        put_reason(out, &outcomes[i]);
    }
}

static void put_what_follows(struct buf *out, bool has_original)
{
    buf_put_z(out, has_original ? "\r\nBelow are a report for mail programs and the header of your message.\r\n"
                                : "\r\nBelow is a report for mail programs. Your message itself cannot be read any more.\r\n");
}

static void put_field(struct buf *out, const char *name, const char *type, struct str value)
{
    buf_printf(out, "%s: %s; ", name, type);
    put_words(out, value);
    buf_put_z(out, "\r\n");
}

static void put_recipient_report(struct buf *out, const struct claim *c, const struct outcome *o, int64_t now_wall_ns)
{
    const struct recipient *rcpt = &c->env.rcpts[o->rcpt];
    buf_put_z(out, "\r\n");
    if (rcpt->original.n > 0) {                               /* it has its type in it: "rfc822;bob@x.example" */
        struct str type, text;
        str_cut(rcpt->original, ';', &type, &text);
        buf_put_z(out, "Original-Recipient: ");
        put_words(out, type);
        buf_put_z(out, "; ");
        put_words(out, text);
        buf_put_z(out, "\r\n");
    }
    buf_put_z(out, "Final-Recipient: rfc822; ");
    put_address_text(out, &rcpt->addr);
    buf_put_z(out, "\r\nAction: failed\r\nStatus: ");
    put_words(out, o->status.n > 0 ? o->status : STR("5.0.0"));
    buf_put_z(out, "\r\n");
    if (o->remote.n > 0) {
        struct str host, rest;
        str_cut(o->remote, ' ', &host, &rest);
        put_field(out, "Remote-MTA", "dns", host);
    }
    put_field(out, "Diagnostic-Code", is_reply(o->text) ? "smtp" : "X-Nightmail", o->text);   /* of type smtp is a reply only (RFC 3464, 2.3.6) */
    buf_put_z(out, "Last-Attempt-Date: ");
    date_put(out, now_wall_ns, 0);
    buf_put_z(out, "\r\n");
}

static void put_report(struct buf *out, const struct conf *conf, const struct claim *c, const struct outcome *outcomes, size_t count,
                       int64_t now_wall_ns)
{
    char id[CODEC_ID_LEN + 1];
    codec_id_format(c->id, id);
    buf_printf(out, "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; %s\r\n", conf->hostname);
    if (c->env.envid.n > 0) {
        buf_put_z(out, "Original-Envelope-Id: ");
        put_words(out, c->env.envid);
        buf_put_z(out, "\r\n");
    }
    buf_printf(out, "X-Nightmail-Queue-ID: %s\r\nArrival-Date: ", id);
    date_put(out, c->env.arrived_ns, 0);
    buf_put_z(out, "\r\n");
    for (size_t i = 0; i < count; i++)
        if (outcomes[i].state == RCPT_BOUNCED)
            put_recipient_report(out, c, &outcomes[i], now_wall_ns);
}

static void put_head(struct buf *out, const struct conf *conf, const struct claim *c, uint64_t id, int64_t now_wall_ns)
{
    char text[CODEC_ID_LEN + 1];
    codec_id_format(id, text);
    buf_put_z(out, "Date: ");
    date_put(out, now_wall_ns, 0);
    buf_printf(out, "\r\nFrom: Mail Delivery System <MAILER-DAEMON@%s>\r\nTo: <", conf->hostname);
    put_address_text(out, &c->env.sender);
    buf_printf(out,
               ">\r\nSubject: Your message could not be delivered\r\n"
               "Message-ID: <%s@%s>\r\n"
               "Auto-Submitted: auto-replied\r\n",           /* RFC 3834, 5: no autoresponder answers this */
               text, conf->hostname);
}

static struct str header_of(struct str original)
{
    struct str head = str_head(original, header_end(original));
    if (head.n <= ORIGINAL_MAX)
        return head;
    head = str_head(head, ORIGINAL_MAX);                      /* cut at a line's end, so that no field is torn in the middle of a line */
    ssize_t lf = str_find_last(head, '\n');
    return str_head(head, (size_t)(lf + 1));
}

static bool has_long_line(struct str text)
{
    while (text.n > 0) {
        struct str line;
        str_cut(text, '\n', &line, &text);
        if (line.n > LINE_MAX_7BIT + 1)                       /* its CR is in it */
            return true;
    }
    return false;
}

/* Always 7-bit text in short lines, so that no server on the way back has a reason to refuse it (RFC 6522, 4 allows the encoding). */
static void put_original(struct buf *out, struct str head)
{
    if (!header_has_8bit(head) && !has_long_line(head)) {
        mime_put_raw(out, "text/rfc822-headers", head);
        return;
    }
    buf_put_z(out, "Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n");
    codec_put_quoted_printable(out, head);
    buf_put_z(out, "\r\n");
}

void bounce_put(struct buf *out, const struct conf *conf, const struct claim *c, const struct outcome *outcomes, size_t count,
                struct str original, uint64_t id, int64_t now_wall_ns)
{
    char boundary[MIME_BOUNDARY_LEN + 1];
    mime_boundary(clock_random_u64(), clock_random_u64(), boundary);
    put_head(out, conf, c, id, now_wall_ns);
    mime_put_report(out, "delivery-status", boundary);
    buf_put_z(out, "\r\n");
    mime_put_part(out, boundary);
    buf_put_z(out, "Content-Type: text/plain; charset=us-ascii\r\n\r\n");
    put_plain_words(out, conf, c, outcomes, count);
    put_what_follows(out, original.p != NULL);
    mime_put_part(out, boundary);
    put_report(out, conf, c, outcomes, count, now_wall_ns);
    if (original.p != NULL) {
        mime_put_part(out, boundary);
        put_original(out, header_of(original));
    }
    mime_put_end(out, boundary);
}

/* -- sending it ------------------------------------------------------------------------------------------------------------ */

static int read_header(struct claim *c, struct buf *out)
{
    size_t n = c->body_size < ORIGINAL_MAX ? c->body_size : ORIGINAL_MAX, got = 0;
    char *room = buf_room(out, n);
    if (room == NULL)
        return -ENOMEM;
    int r = queue_read_body(c, 0, room, n, &got);
    if (r == 0)
        buf_added(out, got);
    return r;
}

static int put_in_queue(const struct conf *conf, struct claim *c, uint64_t id, struct str text)
{
    struct recipient to = { .addr = c->env.sender };
    struct envelope env = {
        .id = id, .arrived_ns = clock_wall_ns(), .null_sender = true, .rcpts = &to, .rcpt_count = 1, .helo = str_of(conf->hostname),
        .protocol = STR("dsn"), .size = text.n,
    };
    struct body *body = body_new(c->queue, id);
    if (body == NULL)
        return -ENOMEM;
    int r = body_append(body, text);
    if (r == 0)
        r = queue_put(c->queue, &env, body);
    body_free(body);
    return r;
}

int bounce_send(const struct conf *conf, struct claim *c, struct outcome *outcomes, size_t count, uint64_t *out_id)
{
    for (size_t i = 0; i < count; i++)
        if (outcomes[i].state == RCPT_BOUNCED && !owed(c, &outcomes[i]))
            outcomes[i].state = RCPT_FAILED;
    *out_id = 0;
    if (count_bounced(outcomes, count) == 0)
        return 0;
    CLEANUP_BUF struct buf original, text;
    buf_init(&original, ORIGINAL_MAX);
    buf_init(&text, DSN_MAX);
    bool readable = read_header(c, &original) == 0;           /* the sender of a message that the disk has lost must hear of it all the more */
    uint64_t id = queue_new_id(c->queue);
    bounce_put(&text, conf, c, outcomes, count, readable ? buf_str(&original) : (struct str){ NULL, 0 }, id, clock_wall_ns());
    if (!buf_ok(&text))
        return -ENOMEM;
    int r = put_in_queue(conf, c, id, buf_str(&text));
    if (r == 0)
        *out_id = id;
    return r;
}
