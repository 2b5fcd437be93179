/*
 * Fuzzes smtp/command: one line. What MAIL and RCPT understood is written, read again, and written again: the same bytes.
 */
#include "base/cleanup.h"
#include "smtp/xclient.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One line of ours: CRLF at its end and nowhere else, no other control. */
static struct str line_of(const struct buf *out)
{
    struct str line = buf_str(out);

    assert(buf_ok(out) && line.n >= 2 && str_eq(str_from(line, line.n - 2), STR("\r\n")));
    line = str_head(line, line.n - 2);
    for (size_t i = 0; i < line.n; i++)
        assert((unsigned char)line.p[i] >= ' ' && line.p[i] != 0x7f);
    return line;
}

static void check_mail(struct arena *a, struct str args)
{
    struct mail_args mail, back;
    struct smtp_line line;
    struct str culprit = STR("");

    enum smtp_parse r = smtp_parse_mail(a, args, &mail, &culprit);
    assert((culprit.n > 0) == (r == SMTP_UNKNOWN_PARAMETER || r == SMTP_BAD_PARAMETER || r == SMTP_DUPLICATE_PARAMETER));
    if (r != SMTP_OK)
        return;
    CLEANUP_BUF struct buf out, again;
    buf_init(&out, 1 << 16);
    buf_init(&again, 1 << 16);
    smtp_put_mail(&out, &mail);
    smtp_parse_line(line_of(&out), &line);
    assert(line.verb == VERB_MAIL && smtp_parse_mail(a, line.args, &back, NULL) == SMTP_OK);
    assert(back.seen == mail.seen && back.null_sender == mail.null_sender && back.size == mail.size && back.by_s == mail.by_s);
    assert(str_eq(back.envid, mail.envid) && str_eq(back.auth, mail.auth) && back.hold_until_ns == mail.hold_until_ns);
    smtp_put_mail(&again, &back);
    assert(str_eq(buf_str(&out), buf_str(&again)));
}

static void check_rcpt(struct arena *a, struct str args)
{
    struct rcpt_args rcpt, back;
    struct smtp_line line;

    bool ascii = smtp_parse_rcpt(a, args, &rcpt, NULL) == SMTP_OK;
    bool utf8 = smtp_parse_rcpt_utf8(a, args, &rcpt, NULL) == SMTP_OK;
    assert(utf8 || !ascii);
    if (!utf8)
        return;
    CLEANUP_BUF struct buf out, again;
    buf_init(&out, 1 << 16);
    buf_init(&again, 1 << 16);
    smtp_put_rcpt(&out, &rcpt);
    smtp_parse_line(line_of(&out), &line);
    assert(line.verb == VERB_RCPT && smtp_parse_rcpt_utf8(a, line.args, &back, NULL) == SMTP_OK);
    assert(back.seen == rcpt.seen && back.notify == rcpt.notify && str_eq(back.orcpt, rcpt.orcpt) && back.rrvs_ns == rcpt.rrvs_ns);
    smtp_put_rcpt(&again, &back);
    assert(str_eq(buf_str(&out), buf_str(&again)));
}

static void check_xtext(struct arena *a, struct str text)
{
    struct str plain, back;

    if (!smtp_parse_xtext(a, text, &plain))
        return;
    CLEANUP_BUF struct buf out;
    buf_init(&out, 1 << 16);
    smtp_put_xtext(&out, plain);
    assert(smtp_parse_xtext(a, buf_str(&out), &back) && str_eq(plain, back));
}

static void check_word(struct str s)
{
    assert(s.n <= XCLIENT_TEXT_MAX);
    for (size_t i = 0; i < s.n; i++)
        assert(s.p[i] > ' ' && s.p[i] < 0x7f);
}

/* Whatever a proxy tells us, it is words. */
static void check_xclient(struct arena *a, struct str args)
{
    struct xclient_args told = { .seen = 0 };
    struct str culprit = STR("");

    if (smtp_parse_xforward(a, args, &told, &culprit) != SMTP_OK && smtp_parse_xclient(a, args, &told, &culprit) != SMTP_OK)
        assert(told.seen == 0);
    check_word(told.name);
    check_word(told.reverse_name);
    check_word(told.helo);
    check_word(told.login);
    check_word(told.ident);
    check_word(culprit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;
    struct smtp_line line;
    struct str in = { (const char *)data, size }, name;
    uint64_t bytes;
    bool last;

    if (size > SMTP_LINE_MAX)
        return 0;
    arena_init(&a, 1 << 20);
    smtp_parse_line(in, &line);
    assert(line.args.n <= size && smtp_verb_name(line.verb) != NULL);
    check_mail(&a, line.args);
    check_rcpt(&a, line.args);
    (void)smtp_parse_hello(&a, line.args, &name);
    (void)smtp_parse_bdat(line.args, &bytes, &last);
    check_xtext(&a, line.args);
    check_xclient(&a, line.args);
    arena_reset(&a);
    return 0;
}
