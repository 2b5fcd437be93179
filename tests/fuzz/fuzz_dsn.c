/*
 * Fuzzes the words of others on their way into a DSN: what a client said in MAIL and RCPT, what a server replied, and the message itself.
 *
 * An input is a byte of options and then texts, divided by the byte 0x1e:
 *     bits 0-1  of the first recipient: bounced, pending, delivered
 *     bit 2     the sender is told of delays
 *     bit 3     the remote's name is a reply too
 * The texts: the arguments of MAIL; for each recipient the arguments of RCPT and what the server said; the last is the message.
 *
 * Whatever they are: the DSN is mail of seven bits in lines (unless its reader has an address in UTF-8), it has three parts and no more, and
 * its report has the groups and fields that we have written, each once.
 */
#include "mail/header.h"
#include "conf/test_scene.h"
#include "outbound/dsn.h"
#include "smtp/command.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DIVIDER   0x1e
#define RCPTS_MAX 8
#define NOW       (INT64_C(1767225600) * NS_PER_S)

enum { STATE = 3, TELLS_DELAY = 4, REMOTE_TOO = 8 };

struct letter {
    struct arena     arena;
    struct claim     claim;
    struct recipient rcpts[RCPTS_MAX];
    struct outcome   outcomes[RCPTS_MAX];
    struct str       original;
    uint8_t          options;
    bool             utf8;
};

/* -- what was said ------------------------------------------------------------------------------------------------------------------ */

static bool read_sender(struct letter *l, struct str args)
{
    struct mail_args mail;
    struct envelope *env = &l->claim.env;

    if (smtp_parse_mail(&l->arena, args, &mail, NULL) != SMTP_OK || mail.null_sender)
        return false;
    l->utf8 = mail.seen & PARAM_SMTPUTF8;
    *env = (struct envelope){ .arrived_ns = NOW - NS_PER_S, .sender = mail.sender, .envid = mail.envid, .ret = mail.ret,
                               .smtputf8 = l->utf8, .rcpts = l->rcpts };
    return true;
}

static struct outcome what_became_of(struct letter *l, struct str said)
{
    static const enum rcpt_state states[] = { RCPT_BOUNCED, RCPT_PENDING, RCPT_DELIVERED, RCPT_BOUNCED };
    struct str remote = l->options & REMOTE_TOO ? said : STR("mx.there.example [192.0.2.1]");
    struct smtp_reply reply;
    size_t used;

    smtp_reply_init(&reply);
    enum reply_result result = smtp_parse_reply(said, &used, &reply);
    struct outcome o = result == REPLY_DONE ? outcome_of_reply(&l->arena, &reply, remote)
                                            : (struct outcome){ .status = str_head(said, 10), .remote = remote, .text = said };
    smtp_reply_free(&reply);
    o.state = l->claim.env.rcpt_count == 0 ? states[l->options & STATE] : RCPT_BOUNCED;
    return o;
}

static bool read_recipient(struct letter *l, struct str args, struct str said)
{
    struct rcpt_args rcpt;
    size_t n = l->claim.env.rcpt_count;
    enum smtp_parse r = l->utf8 ? smtp_parse_rcpt_utf8(&l->arena, args, &rcpt, NULL) : smtp_parse_rcpt(&l->arena, args, &rcpt, NULL);

    if (r != SMTP_OK || n == RCPTS_MAX)
        return false;
    l->outcomes[n] = what_became_of(l, said);
    l->outcomes[n].rcpt = (uint32_t)n;
    l->rcpts[n] = (struct recipient){ .addr = rcpt.rcpt, .original = rcpt.orcpt, .notify = rcpt.notify };
    l->claim.env.rcpt_count++;
    return true;
}

static bool read_all(struct letter *l, struct str input)
{
    struct str args, said;

    bool ok = str_cut(input, DIVIDER, &args, &input) && read_sender(l, args);
    while (ok && str_cut(input, DIVIDER, &args, &input))
        ok = str_cut(input, DIVIDER, &said, &input) && read_recipient(l, args, said);
    l->original = input;
    l->claim.body_size = input.n;
    return ok && l->claim.env.rcpt_count > 0;
}

/* -- what is written ---------------------------------------------------------------------------------------------------------------- */

static void check_lines(struct str text, bool global)
{
    while (text.n > 0) {
        struct str line;
        bool whole = str_cut(text, '\n', &line, &text);
        assert(whole && line.n >= 1 && line.p[line.n - 1] == '\r');
        for (size_t i = 0; i + 1 < line.n; i++) {
            unsigned char c = (unsigned char)line.p[i];
            assert((c >= ' ' && c < 0x7f) || c == '\t' || (c > 0x7f && global));
        }
    }
}

static struct str cut_at(struct str *rest, struct str delimiter)
{
    ssize_t at = str_find_str(*rest, delimiter);
    assert(at >= 0);
    struct str part = str_head(*rest, (size_t)at);
    *rest = str_from(*rest, (size_t)at + delimiter.n);
    return part;
}

static bool is_one_of(struct str name, const char *const *names)
{
    for (; *names != NULL; names++)
        if (str_eq(name, str_of(*names)))
            return true;
    return false;
}

/* A group of fields: these and no others, none of them twice. */
static void check_group(struct str group, const char *const *names)
{
    struct header_iter it;
    struct header_field field;
    size_t bytes = 0, count = 0, known = 0;

    for (header_begin(&it, group); header_next(&it, &field); count++) {
        assert(is_one_of(field.name, names) && header_count(group, field.name) == 1);
        bytes += field.name.n + 1 + field.value.n;
    }
    for (struct str line, rest = group; str_cut(rest, '\n', &line, &rest) && line.n > 1;)
        known++;
    assert(count == known && bytes <= group.n);              /* each line is a field: nothing folds, nothing else stands there */
}

static void check_report(struct str report, size_t told)
{
    static const char *const of_message[] = { "Reporting-MTA", "Original-Envelope-Id", "X-Nightmail-Queue-ID", "Arrival-Date", NULL };
    static const char *const of_rcpt[] = { "Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code",
                                          "Last-Attempt-Date", "Will-Retry-Until", NULL };
    struct str rest = str_from(report, header_end(report));

    check_group(str_head(rest, header_end(rest)), of_message);
    for (rest = str_from(rest, header_end(rest)); rest.n > 0; rest = str_from(rest, header_end(rest)), told--)
        check_group(str_head(rest, header_end(rest)), of_rcpt);
    assert(told == 0);
}

static void check_dsn(const struct letter *l, struct str text, size_t told)
{
    static const char *const head_names[] = { "Date", "From", "To", "Subject", "Message-ID", "Auto-Submitted", "MIME-Version",
                                            "Content-Type", "Content-Transfer-Encoding", NULL };
    bool global = l->claim.env.sender.utf8;
    struct str head = str_head(text, header_end(text)), boundary, rest = text;
    struct header_iter it;
    struct header_field field;
    char delimiter[128];

    check_lines(head, global);
    for (header_begin(&it, head); header_next(&it, &field);)
        assert(is_one_of(field.name, head_names) && header_count(head, field.name) == 1);
    (void)cut_at(&rest, STR("boundary=\""));
    str_cut(rest, '"', &boundary, &rest);
    snprintf(delimiter, sizeof delimiter, "\r\n--%.*s", STR_ARG(boundary));
    (void)cut_at(&rest, str_of(delimiter));
    struct str words = cut_at(&rest, str_of(delimiter));
    struct str report = cut_at(&rest, str_of(delimiter));
    (void)cut_at(&rest, str_of(delimiter));
    assert(str_eq(rest, STR("--\r\n")));
    check_lines(str_from(words, 2), global);
    check_report(str_from(report, 2), told);
}

/* -- ---- */

static size_t count_told(const struct letter *l)
{
    size_t told = 0;

    for (size_t i = 0; i < l->claim.env.rcpt_count; i++) {
        uint8_t notify = l->rcpts[i].notify;
        switch (l->outcomes[i].state) {
        case RCPT_BOUNCED:   told += notify == 0 || (notify & NOTIFY_FAILURE); break;
        case RCPT_PENDING:   told += (l->options & TELLS_DELAY) && (notify & NOTIFY_DELAY); break;
        case RCPT_DELIVERED: told += (notify & NOTIFY_SUCCESS) != 0; break;
        case RCPT_FAILED:
        case RCPT_DISCARDED: break;
        }
    }
    return told;
}

static void write_it(struct letter *l, const struct conf *conf)
{
    size_t told = count_told(l);
    struct dsn d = { .conf = conf, .claim = &l->claim, .outcomes = l->outcomes, .count = l->claim.env.rcpt_count,
                     .tell_delay = l->options & TELLS_DELAY, .now_wall_ns = NOW };
    struct buf out;

    if (told == 0)
        return;
    buf_init(&out, 1 << 24);
    dsn_put(&out, &d, l->original, 78);
    assert(buf_ok(&out));
    check_dsn(l, buf_str(&out), told);
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct conf *conf;
    static struct letter l;

    if (conf == NULL)
        conf = conf_of("hostname = us.example\n");
    if (size == 0)
        return -1;
    l = (struct letter){ .options = data[0], .claim.id = 77 };
    arena_init(&l.arena, 1 << 20);
    bool ok = read_all(&l, (struct str){ (const char *)data + 1, size - 1 });
    if (ok)
        write_it(&l, conf);
    arena_reset(&l.arena);
    return ok ? 0 : -1;
}
