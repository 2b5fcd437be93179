/*
 * DSNs: see dsn.h. The human part says in plain words what happened, before the part for programs.
 */
#include "outbound/dsn.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/utf8.h"
#include "mail/date.h"
#include "mail/header.h"
#include "mail/mime.h"
#include "outbound/retry.h"
#include <errno.h>
#include <string.h>

#define ORIGINAL_MAX (64 * 1024)         /* of the original that is sent back */
#define WORDS_MAX    800                 /* of a remote's words on one line of ours, which has 998 (RFC 5322, 2.1.1) */
#define LINE_MAX_7BIT 998
#define DSN_MAX      (16 * 1024 * 1024)  /* thousands of recipients with a text each */

/* -- who is told of what ----------------------------------------------------------------------------------------------------- */

/* RFC 3464, 2.3.3. In the order in which a DSN tells of them: what matters most first. */
enum action { ACTION_FAILED, ACTION_DELAYED, ACTION_RELAYED, ACTION_DELIVERED, ACTION_NONE };

static const struct {
    const char *word, *subject, *one, *many;
} actions[] = {
    [ACTION_FAILED]    = { "failed", "Your message could not be delivered",
                           "could not be delivered to the following recipient.\r\nIt has been given up; nothing more will be tried.\r\n",
                           "could not be delivered to the following recipients.\r\nIt has been given up; nothing more will be tried.\r\n" },
    [ACTION_DELAYED]   = { "delayed", "Your message is delayed",
                           "has not yet been delivered to the following recipient.\r\nYou need not send it again; it is still being tried.\r\n",
                           "has not yet been delivered to the following recipients.\r\nYou need not send it again; it is still being tried.\r\n" },
    [ACTION_RELAYED]   = { "relayed", "Your message has been handed on",
                           "has been handed on for the following recipient, to a server that does not tell of deliveries.\r\n",
                           "has been handed on for the following recipients, to servers that do not tell of deliveries.\r\n" },
    [ACTION_DELIVERED] = { "delivered", "Your message has been delivered",
                           "has been delivered to the mailbox of the following recipient.\r\n",
                           "has been delivered to the mailboxes of the following recipients.\r\n" },
};

/* RFC 3461, 4.1: without NOTIFY a failure is told. */
static bool wants(const struct dsn *d, const struct outcome *o, enum recipient_notify what)
{
    uint8_t notify = d->claim->env.rcpts[o->rcpt].notify;
    return !d->claim->env.null_sender && (notify == 0 ? what == NOTIFY_FAILURE : (notify & what) != 0);
}

static bool wants_any(const struct dsn *d, const struct outcome *o)
{
    return !d->claim->env.null_sender && d->claim->env.rcpts[o->rcpt].notify != NOTIFY_NEVER;
}

/* RFC 2852, 4.1.4 and 4.1.5: who asked for a trace hears of each relay; who set a time, of a server that does not know of it. */
static bool by_wants_relayed(const struct dsn *d, const struct outcome *o)
{
    uint8_t mode = d->claim->env.by_mode;
    return mode != 0 && o->remote.n > 0 && !o->in_mailbox && ((mode & ENVELOPE_BY_TRACE) || !o->by_handed_on) && wants_any(d, o);
}

static enum action action_of(const struct dsn *d, const struct outcome *o)
{
    switch (o->state) {
    case RCPT_BOUNCED:   return wants(d, o, NOTIFY_FAILURE) ? ACTION_FAILED : ACTION_NONE;
    case RCPT_PENDING:
        if (d->tell_late && wants_any(d, o))
            return ACTION_DELAYED;
        return d->tell_delay && wants(d, o, NOTIFY_DELAY) ? ACTION_DELAYED : ACTION_NONE;
    case RCPT_DELIVERED:
        if (by_wants_relayed(d, o))
            return ACTION_RELAYED;
        if (o->dsn_handed_on || !wants(d, o, NOTIFY_SUCCESS))
            return ACTION_NONE;
        return o->remote.n > 0 && !o->in_mailbox ? ACTION_RELAYED : ACTION_DELIVERED;   /* RFC 3461, 5.2.3 and 5.2.5 */
    case RCPT_FAILED: case RCPT_DISCARDED: break;
    }
    return ACTION_NONE;
}

static size_t count_of(const struct dsn *d, enum action action)
{
    size_t count = 0;
    for (size_t i = 0; i < d->count; i++)
        count += action_of(d, &d->outcomes[i]) == action;
    return count;
}

/* ACTION_NONE: nobody is told of anything. */
static enum action gravest(const struct dsn *d)
{
    enum action first = ACTION_NONE;
    for (size_t i = 0; i < d->count; i++) {
        enum action action = action_of(d, &d->outcomes[i]);
        if (action < first)
            first = action;
    }
    return first;
}

bool dsn_wants_delay(const struct dsn *d)
{
    for (size_t i = 0; i < d->count; i++)
        if (d->outcomes[i].state == RCPT_PENDING && wants(d, &d->outcomes[i], NOTIFY_DELAY))
            return true;
    return false;
}

bool dsn_wants_late(const struct dsn *d)
{
    for (size_t i = 0; i < d->count; i++)
        if (d->outcomes[i].state == RCPT_PENDING && wants_any(d, &d->outcomes[i]))
            return true;
    return false;
}

/* -- the text ------------------------------------------------------------------------------------------------------------ */

/* Who has an address in UTF-8 can read a DSN in it (RFC 6533). All others get one that any server takes. */
static bool is_global(const struct dsn *d) { return d->claim->env.sender.utf8; }

static void put_address_text(struct buf *out, const struct address *addr)
{
    address_put(out, addr);
}

/* "rfc822; bob@x.example"; RFC 6533, 3: "utf-8; " with the address as it is, or encoded. */
static void put_typed_address(struct buf *out, const struct dsn *d, const struct address *addr)
{
    buf_put_z(out, addr->utf8 ? "utf-8; " : "rfc822; ");
    if (addr->utf8 && !is_global(d))
        address_put_utf8_xtext(out, addr);
    else
        address_put(out, addr);
}

/* One line of a remote's words within our text: whatever it says, it stays one line of printable ASCII. */
static void put_words(struct buf *out, struct str words)
{
    words = str_head(words, WORDS_MAX);
    for (size_t i = 0; i < words.n; i++)
        buf_put_char(out, words.p[i] >= 0x20 && words.p[i] < 0x7f ? words.p[i] : '?');
}

/* A server's own words begin with the code of its reply; ours about a server do not. */
static bool is_reply(struct str text)
{
    return text.n > 3 && text.p[3] == ' ' && str_to_u64(str_head(text, 3), 599, &(uint64_t){ 0 });
}

/* Given up although the last answer was no final one. */
static bool is_expired(const struct outcome *o)
{
    return str_starts(o->status, STR("4.")) || (str_eq(o->status, STR("5.4.7")) && o->remote.n > 0);
}

static void put_reason(struct buf *out, const struct outcome *o)
{
    if (o->state == RCPT_BOUNCED && is_expired(o))
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

/* The sender need not know to whom an alias of ours leads: he is told what he wrote, too. */
static void put_recipient_words(struct buf *out, const struct recipient *rcpt)
{
    buf_put_z(out, "\r\n  <");
    put_address_text(out, &rcpt->addr);
    buf_put_z(out, ">");
    if (!address_is_null(&rcpt->rewritten_from)) {
        buf_put_z(out, ", to whom leads <");
        put_address_text(out, &rcpt->rewritten_from);
        buf_put_z(out, ">");
    }
    buf_put_z(out, "\r\n");
}

/* What of the original stands in the third part. */
enum returned { RETURNED_NOTHING, RETURNED_HEADER, RETURNED_ALL };

static void put_what_follows(struct buf *out, enum returned returned)
{
    static const char *const words[] = {
        [RETURNED_NOTHING] = "\r\nBelow is a report for mail programs. Your message itself cannot be read any more.\r\n",
        [RETURNED_HEADER]  = "\r\nBelow are a report for mail programs and the header of your message.\r\n",
        [RETURNED_ALL]     = "\r\nBelow are a report for mail programs and your message.\r\n",
    };
    buf_put_z(out, words[returned]);
}

static void put_plain_words(struct buf *out, const struct dsn *d, enum returned returned)
{
    buf_printf(out, "This is the mail server %s.\r\n", d->conf->hostname);
    for (enum action action = 0; action < ACTION_NONE; action++) {
        size_t count = count_of(d, action);
        if (count == 0)
            continue;
        buf_printf(out, "\r\nYour message %s", count == 1 ? actions[action].one : actions[action].many);
        for (size_t i = 0; i < d->count; i++) {
            const struct outcome *o = &d->outcomes[i];
            if (action_of(d, o) != action)
                continue;
            put_recipient_words(out, &d->claim->env.rcpts[o->rcpt]);
            put_reason(out, o);
        }
    }
    put_what_follows(out, returned);
}

/* Encoded if there are addresses in it that are not ASCII. */
static void put_words_part(struct buf *out, const struct dsn *d, enum returned returned)
{
    CLEANUP_BUF struct buf words;
    buf_init(&words, DSN_MAX);
    put_plain_words(&words, d, returned);
    out->failed |= !buf_ok(&words);
    if (utf8_is_ascii(buf_str(&words))) {
        buf_put_z(out, "Content-Type: text/plain; charset=us-ascii\r\n\r\n");
        buf_put_str(out, buf_str(&words));
    } else {
        buf_put_z(out, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n");
        codec_put_quoted_printable(out, buf_str(&words));
    }
}

static void put_field(struct buf *out, const char *name, const char *type, struct str value)
{
    buf_printf(out, "%s: %s; ", name, type);
    put_words(out, value);
    buf_put_z(out, "\r\n");
}

static void put_original_recipient(struct buf *out, const struct recipient *rcpt)
{
    if (rcpt->original.n > 0) {                               /* it has its type in it: "rfc822;bob@x.example" */
        struct str type, text;
        str_cut(rcpt->original, ';', &type, &text);
        buf_put_z(out, "Original-Recipient: ");
        put_words(out, type);
        buf_put_z(out, "; ");
        put_words(out, text);
        buf_put_z(out, "\r\n");
    }
}

static void put_date(struct buf *out, const char *name, int64_t wall_ns)
{
    buf_printf(out, "%s: ", name);
    date_put(out, wall_ns, 0);
    buf_put_z(out, "\r\n");
}

static void put_recipient_report(struct buf *out, const struct dsn *d, const struct outcome *o, enum action action)
{
    const struct recipient *rcpt = &d->claim->env.rcpts[o->rcpt];
    buf_put_z(out, "\r\n");
    put_original_recipient(out, rcpt);
    buf_put_z(out, "Final-Recipient: ");
    put_typed_address(out, d, &rcpt->addr);
    buf_printf(out, "\r\nAction: %s\r\nStatus: ", actions[action].word);
    put_words(out, o->status.n > 0 ? o->status : STR("5.0.0"));
    buf_put_z(out, "\r\n");
    if (o->remote.n > 0) {
        struct str host, rest;
        str_cut(o->remote, ' ', &host, &rest);
        put_field(out, "Remote-MTA", "dns", host);
    }
    put_field(out, "Diagnostic-Code", is_reply(o->text) ? "smtp" : "X-Nightmail", o->text);   /* of type smtp is a reply only (RFC 3464, 2.3.6) */
    put_date(out, "Last-Attempt-Date", d->now_wall_ns);
    if (action == ACTION_DELAYED)
        put_date(out, "Will-Retry-Until", retry_end(d->conf, &d->claim->env));
}

static void put_report(struct buf *out, const struct dsn *d)
{
    const struct claim *c = d->claim;
    char id[CODEC_ID_LEN + 1];
    codec_id_format(c->id, id);
    buf_put_z(out, is_global(d) ? "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n"
                                : "Content-Type: message/delivery-status\r\n");
    buf_printf(out, "\r\nReporting-MTA: dns; %s\r\n", d->conf->hostname);
    if (c->env.envid.n > 0) {
        buf_put_z(out, "Original-Envelope-Id: ");
        put_words(out, c->env.envid);
        buf_put_z(out, "\r\n");
    }
    buf_printf(out, "X-Nightmail-Queue-ID: %s\r\n", id);
    put_date(out, "Arrival-Date", c->env.arrived_ns);
    for (size_t i = 0; i < d->count; i++) {
        enum action action = action_of(d, &d->outcomes[i]);
        if (action != ACTION_NONE)
            put_recipient_report(out, d, &d->outcomes[i], action);
    }
}

static void put_head(struct buf *out, const struct dsn *d, uint64_t id)
{
    char text[CODEC_ID_LEN + 1];
    codec_id_format(id, text);
    put_date(out, "Date", d->now_wall_ns);
    buf_printf(out, "From: Mail Delivery System <MAILER-DAEMON@%s>\r\nTo: <", d->conf->hostname);
    put_address_text(out, &d->claim->env.sender);
    buf_printf(out,
               ">\r\nSubject: %s\r\n"
               "Message-ID: <%s@%s>\r\n"
               "Auto-Submitted: auto-replied\r\n",           /* RFC 3834, 5: no autoresponder answers this */
               actions[gravest(d)].subject, text, d->conf->hostname);
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
static void put_original(struct buf *out, const struct dsn *d, struct str head)
{
    bool eightbit = header_has_8bit(head);
    const char *type = eightbit && is_global(d) ? "message/global-headers" : "text/rfc822-headers";
    if (!has_long_line(head) && (!eightbit || is_global(d))) {
        mime_put_raw(out, type, head);
        return;
    }
    buf_printf(out, "Content-Type: %s\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n", type);
    codec_put_quoted_printable(out, head);
    buf_put_z(out, "\r\n");
}

/* A whole message cannot be encoded (RFC 2045, 6.4), so one with longer lines than others take comes back as its header; so does a
 * large or binary one, and one that did not fail (RFC 3461, 4.3: RET is about failures). */
static enum returned what_to_return(const struct dsn *d, struct str original)
{
    if (original.p == NULL)
        return RETURNED_NOTHING;
    bool classic = is_global(d) || !d->claim->env.smtputf8 || !header_has_8bit(original);    /* what message/rfc822 can hold, or message/global will */
    bool all = classic && d->claim->env.ret == RET_FULL && gravest(d) == ACTION_FAILED && original.n == d->claim->body_size &&
               !d->claim->env.body_binary && !d->claim->env.requiretls && !has_long_line(original);
    return all ? RETURNED_ALL : RETURNED_HEADER;
}

void dsn_put(struct buf *out, const struct dsn *d, struct str original, uint64_t id)
{
    enum returned returned = what_to_return(d, original);
    char boundary[MIME_BOUNDARY_LEN + 1];
    mime_boundary(clock_random_u64(), clock_random_u64(), boundary);
    put_head(out, d, id);
    mime_put_report(out, is_global(d) ? "global-delivery-status" : "delivery-status", boundary);
    if (is_global(d) || (returned == RETURNED_ALL && !utf8_is_ascii(original)))
        mime_put_8bit(out);
    buf_put_z(out, "\r\n");
    mime_put_part(out, boundary);
    put_words_part(out, d, returned);
    mime_put_part(out, boundary);
    put_report(out, d);
    switch (returned) {
    case RETURNED_NOTHING: break;
    case RETURNED_HEADER:
        mime_put_part(out, boundary);
        put_original(out, d, header_of(original));
        break;
    case RETURNED_ALL:
        mime_put_part(out, boundary);
        mime_put_raw(out, is_global(d) && header_has_8bit(original) ? "message/global" : "message/rfc822", original);
        break;
    }
    mime_put_end(out, boundary);
}

/* -- sending it ------------------------------------------------------------------------------------------------------------ */

static int read_beginning(struct claim *c, struct buf *out)
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

static int put_in_queue(const struct dsn *d, uint64_t id, struct str text)
{
    struct claim *c = d->claim;
    struct recipient to = { .addr = c->env.sender };
    struct envelope env = {
        .id = id, .arrived_ns = clock_wall_ns(), .null_sender = true, .rcpts = &to, .rcpt_count = 1, .helo = str_of(d->conf->hostname),
        .protocol = STR("dsn"), .size = text.n, .body_8bit = !utf8_is_ascii(text), .smtputf8 = is_global(d),
        .requiretls = c->env.requiretls,                      /* RFC 8689, 5: what is told of it is as private as itself, and has its header only */
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

int dsn_send(struct dsn *d, uint64_t *out_id)
{
    for (size_t i = 0; i < d->count; i++)
        if (d->outcomes[i].state == RCPT_BOUNCED && action_of(d, &d->outcomes[i]) == ACTION_NONE)
            d->outcomes[i].state = RCPT_FAILED;
    *out_id = 0;
    if (gravest(d) == ACTION_NONE)
        return 0;
    CLEANUP_BUF struct buf original, text;
    buf_init(&original, ORIGINAL_MAX);
    buf_init(&text, DSN_MAX);
    bool readable = read_beginning(d->claim, &original) == 0;    /* the sender of a message that the disk has lost must hear of it all the more */
    uint64_t id = queue_new_id(d->claim->queue);
    dsn_put(&text, d, readable ? buf_str(&original) : (struct str){ NULL, 0 }, id);
    if (!buf_ok(&text))
        return -ENOMEM;
    int r = put_in_queue(d, id, buf_str(&text));
    if (r == 0)
        *out_id = id;
    return r;
}
