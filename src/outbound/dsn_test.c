/*
 * outbound/dsn: the text of a DSN, read back as a mail program would, and who gets one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/codec.h"
#include "mail/date.h"
#include "mail/header.h"
#include "outbound/dsn.h"
#include "outbound/test_scene.h"

#define RCPTS_MAX 8
#define NOW       (INT64_C(1767225600) * NS_PER_S)
#define ORIGINAL  "Received: from a\r\nSubject: Lunch?\r\nX: folded\r\n more\r\n\r\nThe body is not sent back.\r\n"

/* -- a DSN and its parts ---------------------------------------------------------------------------------------------------- */

struct letter {
    struct arena a;
    struct conf *conf;
    struct claim claim;
    struct recipient rcpts[RCPTS_MAX];
    struct outcome outcomes[RCPTS_MAX];
    bool tell_delay;
    struct buf text;
    struct str head, words, report, original; /* views into text: the whole's header, and the three parts with theirs */
};

static struct address address(struct letter *d, const char *text)
{
    struct address addr;
    assert_true(address_parse_with(&d->a, str_of(text), ADDRESS_UTF8, &addr));
    return addr;
}

static struct letter *letter_new(const char *sender)
{
    struct letter *d = calloc(1, sizeof *d);
    assert_non_null(d);
    arena_init(&d->a, 1 << 20);
    buf_init(&d->text, 1 << 24);
    d->conf = scene_conf("us.example", "us");
    d->claim = (struct claim){ .id = 77, .attempts = 1 };
    d->claim.env = (struct envelope){ .id = 77, .arrived_ns = NOW - 60 * NS_PER_S, .rcpts = d->rcpts, .null_sender = sender[0] == '\0' };
    if (sender[0] != '\0')
        d->claim.env.sender = address(d, sender);
    return d;
}

static void letter_add(struct letter *d, const char *rcpt, enum rcpt_state state, const char *status, const char *remote, struct str text)
{
    uint32_t i = (uint32_t)d->claim.env.rcpt_count++;
    d->rcpts[i].addr = address(d, rcpt);
    d->outcomes[i] = (struct outcome){ .rcpt = i, .state = state, .status = str_of(status), .remote = str_of(remote), .text = text };
}

/* The text up to the next delimiter line; rest begins behind that line. */
static struct str cut_part(struct str *rest, struct str delimiter)
{
    ssize_t at = str_find_str(*rest, delimiter);
    assert_true(at >= 0);
    struct str part = str_head(*rest, (size_t)at), line;
    *rest = str_from(*rest, (size_t)at + delimiter.n);
    if (!str_starts(*rest, STR("--")))
        str_cut(*rest, '\n', &line, rest);
    return part;
}

static struct str value_of(struct str message, const char *name)
{
    struct header_field field;
    if (!header_find(message, str_of(name), &field))
        return STR("(missing)");
    return str_trim(field.value);
}

#define assert_str(got, wanted)                                                                                                            \
    do {                                                                                                                                   \
        struct str got_ = (got), wanted_ = (wanted);                                                                                       \
        if (!str_eq(got_, wanted_))                                                                                                        \
            print_error("got '%" STR_FMT "', wanted '%" STR_FMT "'\n", STR_ARG(got_), STR_ARG(wanted_));                                   \
        assert_true(str_eq(got_, wanted_));                                                                                                \
    } while (0)

/* Seven-bit text in lines that every server takes (RFC 5321, 4.5.3.1.6), each with its CRLF. */
static void check_lines(struct str text)
{
    while (text.n > 0) {
        struct str line;
        assert_true(str_cut(text, '\n', &line, &text));
        assert_true(line.n >= 1 && line.n <= 999 && line.p[line.n - 1] == '\r');
        for (size_t i = 0; i + 1 < line.n; i++)
            assert_true((line.p[i] >= 0x20 && line.p[i] < 0x7f) || line.p[i] == '\t');
    }
}

static void letter_write(struct letter *d, struct str original)
{
    struct str boundary, rest;
    char delimiter[128];
    struct dsn dsn = { .conf = d->conf, .claim = &d->claim, .outcomes = d->outcomes, .count = d->claim.env.rcpt_count, .now_wall_ns = NOW };
    dsn.tell_delay = d->tell_delay;
    dsn_put(&d->text, &dsn, original, 78);
    assert_true(buf_ok(&d->text));
    struct str text = buf_str(&d->text);
    bool global = d->claim.env.sender.utf8;
    if (!global)
        check_lines(text);
    d->head = str_head(text, header_end(text));
    struct str type = header_unfold(&d->a, value_of(d->head, "Content-Type"));
    assert_true(str_starts(type, STR("multipart/report;")));
    assert_true(str_find_str(type, global ? STR("report-type=global-delivery-status") : STR("report-type=delivery-status")) > 0);
    ssize_t at = str_find_str(type, STR("boundary=\""));
    assert_true(at > 0);
    str_cut(str_from(type, (size_t)at + 10), '"', &boundary, &rest);
    snprintf(delimiter, sizeof delimiter, "--%" STR_FMT, STR_ARG(boundary));
    rest = str_from(text, header_end(text));
    (void)cut_part(&rest, str_of(delimiter));
    snprintf(delimiter, sizeof delimiter, "\r\n--%" STR_FMT, STR_ARG(boundary));
    d->words = cut_part(&rest, str_of(delimiter));
    d->report = cut_part(&rest, str_of(delimiter));
    d->original = cut_part(&rest, str_of(delimiter));
    assert_true(str_starts(rest, STR("--\r\n")));
    assert_str(str_trim(value_of(d->report, "Content-Type")), global ? STR("message/global-delivery-status") : STR("message/delivery-status"));
    assert_true(str_starts(value_of(d->words, "Content-Type"), STR("text/plain")));
}

static void letter_free(struct letter *d)
{
    buf_free(&d->text);
    arena_reset(&d->a);
    conf_unref(d->conf);
    free(d);
}

/* The fields of the i-th recipient in the report; 0 is the message's own group. */
static struct str group(const struct letter *d, unsigned i)
{
    struct str rest = str_from(d->report, header_end(d->report));
    for (; i > 0; i--)
        rest = str_from(rest, header_end(rest));
    return str_head(rest, header_end(rest));
}

/* -- the text ---------------------------------------------------------------------------------------------------------------------- */

static void a_plain_bounce(void **state)
{
    (void)state;
    struct letter *d = letter_new("ann@here.example");
    letter_add(d, "bob@there.example", RCPT_BOUNCED, "5.1.1", "mx.there.example [192.0.2.1]", STR("550 5.1.1 No such user"));
    letter_write(d, STR(ORIGINAL));

    int64_t date;
    assert_str(value_of(d->head, "To"), STR("<ann@here.example>"));
    assert_str(value_of(d->head, "From"), STR("Mail Delivery System <MAILER-DAEMON@us.example>"));
    assert_str(value_of(d->head, "Auto-Submitted"), STR("auto-replied"));
    assert_str(value_of(d->head, "MIME-Version"), STR("1.0"));
    assert_true(date_parse(value_of(d->head, "Date"), &date, NULL) && date == NOW);
    assert_int_equal(header_count(d->head, STR("Message-ID")), 1);

    struct str words = str_from(d->words, header_end(d->words));
    assert_true(str_starts(words, STR("This is the mail server us.example.\r\n")));
    assert_true(str_find_str(words, STR("following recipient.\r\n")) > 0);
    assert_true(str_find_str(words, STR("<bob@there.example>")) > 0);
    assert_true(str_find_str(words, STR("mx.there.example [192.0.2.1] said:\r\n    550 5.1.1 No such user\r\n")) > 0);

    assert_str(value_of(group(d, 0), "Reporting-MTA"), STR("dns; us.example"));
    assert_true(date_parse(value_of(group(d, 0), "Arrival-Date"), &date, NULL) && date == NOW - 60 * NS_PER_S);
    assert_str(value_of(group(d, 0), "Original-Envelope-Id"), STR("(missing)"));
    assert_str(value_of(group(d, 1), "Final-Recipient"), STR("rfc822; bob@there.example"));
    assert_str(value_of(group(d, 1), "Original-Recipient"), STR("(missing)"));
    assert_str(value_of(group(d, 1), "Action"), STR("failed"));
    assert_str(value_of(group(d, 1), "Status"), STR("5.1.1"));
    assert_str(value_of(group(d, 1), "Remote-MTA"), STR("dns; mx.there.example"));
    assert_str(value_of(group(d, 1), "Diagnostic-Code"), STR("smtp; 550 5.1.1 No such user"));
    assert_true(date_parse(value_of(group(d, 1), "Last-Attempt-Date"), &date, NULL) && date == NOW);

    assert_str(value_of(d->original, "Content-Type"), STR("text/rfc822-headers"));
    struct str original = str_from(d->original, header_end(d->original));
    assert_str(value_of(original, "Subject"), STR("Lunch?"));
    assert_true(str_find_str(original, STR("The body")) < 0);
    letter_free(d);
}

static void only_those_that_failed(void **state)
{
    (void)state;
    struct letter *d = letter_new("ann@here.example");
    d->claim.env.envid = STR("QQ 314159\r\nX: y");
    letter_add(d, "delivered@x.example", RCPT_DELIVERED, "2.0.0", "", STR("ok"));
    letter_add(d, "bob@x.example", RCPT_BOUNCED, "5.1.1", "", STR("there is no such mailbox here"));
    letter_add(d, "deferred@x.example", RCPT_PENDING, "4.2.2", "", STR("full"));
    letter_add(d, "never@x.example", RCPT_FAILED, "5.1.1", "", STR("no"));
    d->rcpts[1].original = STR("rfc822;Bob+list@elsewhere.example");
    assert_true(address_of_parts(STR("team"), STR("here.example"), &d->rcpts[1].rewritten_from));
    letter_write(d, STR(ORIGINAL));
    assert_true(str_find_str(d->words, STR("  <bob@x.example>, to whom leads <team@here.example>\r\n")) > 0);
    assert_true(str_find_str(d->words, STR("following recipient.")) > 0); /* one of four */
    for (unsigned i = 0; i < 4; i++)
        if (i != 1) {
            assert_true(str_find_str(buf_str(&d->text), d->rcpts[i].addr.local) < 0 || i == 0);
            assert_true(str_find_str(d->report, d->rcpts[i].addr.local) < 0);
        }
    assert_str(value_of(group(d, 0), "Original-Envelope-Id"), STR("QQ 314159??X: y"));
    assert_str(value_of(group(d, 1), "Original-Recipient"), STR("rfc822; Bob+list@elsewhere.example"));
    assert_str(value_of(group(d, 1), "Remote-MTA"), STR("(missing)"));
    assert_str(value_of(group(d, 1), "Diagnostic-Code"), STR("X-Nightmail; there is no such mailbox here"));
    assert_int_equal(group(d, 2).n, 0);
    letter_free(d);
}

/* What we say about a server is not put into its mouth. */
static void our_own_words(void **state)
{
    (void)state;
    struct letter *d = letter_new("ann@here.example");
    letter_add(d, "a@x.example", RCPT_BOUNCED, "4.4.7", "mx.x.example [192.0.2.1]", STR("cannot connect: timed out"));
    letter_add(d, "b@x.example", RCPT_BOUNCED, "4.4.7", "mx.x.example [192.0.2.1]", STR("450 4.2.0 greylisted"));
    letter_add(d, "c@x.example", RCPT_BOUNCED, "4.4.7", "", STR("the disk is full"));
    letter_write(d, STR(ORIGINAL));
    assert_true(str_find_str(d->words, STR("last answer was:\r\n    at mx.x.example [192.0.2.1]:\r\n    cannot connect: timed out\r\n")) > 0);
    assert_true(str_find_str(d->words, STR("last answer was:\r\n    mx.x.example [192.0.2.1] said:\r\n    450 4.2.0 greylisted\r\n")) > 0);
    assert_true(str_find_str(d->words, STR("last answer was:\r\n    the disk is full\r\n")) > 0);
    assert_str(value_of(group(d, 1), "Remote-MTA"), STR("dns; mx.x.example"));
    assert_str(value_of(group(d, 1), "Diagnostic-Code"), STR("X-Nightmail; cannot connect: timed out"));
    assert_str(value_of(group(d, 2), "Diagnostic-Code"), STR("smtp; 450 4.2.0 greylisted"));
    assert_str(value_of(group(d, 3), "Diagnostic-Code"), STR("X-Nightmail; the disk is full"));
    letter_free(d);
}

/* Whatever a remote says, it stays one line of its own. dsn_write checks every line for what may not stand there. */
static void hostile_words(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "550 a\r\n\r\n--boundary\r\nContent-Type: text/html",
        "550 \n.\n",
        "550 \r.\r",
        "550 \xff\xfe\x80 Gr\xc3\xbc\xc3\x9f n",
        "550 \x1b[2J\x07",
        "550 \t",
        "",
        " ",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct letter *d = letter_new("ann@here.example");
        letter_add(d, "bob@x.example", RCPT_BOUNCED, "5.1.1\r\nX: y", "mx\r\nBcc: z [192.0.2.1]", str_of(texts[i]));
        letter_write(d, STR(ORIGINAL));
        assert_str(value_of(group(d, 1), "X"), STR("(missing)"));
        assert_str(value_of(d->head, "Bcc"), STR("(missing)"));
        assert_int_equal(header_count(group(d, 1), STR("Final-Recipient")), 1);
        assert_int_equal(group(d, 2).n, 0);
        letter_free(d);
    }
    char *endless = malloc(QUEUE_OUTCOME_TEXT_MAX);
    memset(endless, 'x', QUEUE_OUTCOME_TEXT_MAX);
    struct letter *d = letter_new("ann@here.example");
    letter_add(d, "bob@x.example", RCPT_BOUNCED, "", "mx [192.0.2.1]", (struct str){ endless, QUEUE_OUTCOME_TEXT_MAX });
    letter_write(d, STR(ORIGINAL));
    assert_str(value_of(group(d, 1), "Status"), STR("5.0.0"));
    letter_free(d);
    free(endless);
}

static void the_original_header(void **state)
{
    (void)state;
    struct buf big;
    buf_init(&big, 1 << 20);
    for (unsigned i = 0; big.n < 100000; i++)
        buf_printf(&big, "X-Line: %u ........................................\r\n", i);
    static const struct {
        const char *original, *encoding;
    } rows[] = {
        {"",                             "7bit"            },
        { "\r\n",                        "7bit"            },
        { "Subject: no end of line",     "7bit"            },
        { "no field at all\r\n\r\nbody", "7bit"            },
        { "Subject: Gr\xc3\xbc\xc3\x9f"
          "e\r\n\r\nbody",      "quoted-printable"},
        { "Subject: \xff\r\n\r\nbody",   "quoted-printable"},
        { NULL,                          "7bit"            }, /* the big one */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct letter *d = letter_new("ann@here.example");
        letter_add(d, "bob@x.example", RCPT_BOUNCED, "5.1.1", "", STR("no"));
        letter_write(d, rows[i].original != NULL ? str_of(rows[i].original) : buf_str(&big));
        assert_str(value_of(str_head(d->original, header_end(d->original)), "Content-Transfer-Encoding"), str_of(rows[i].encoding));
        assert_true(str_find_str(d->original, STR("body")) < 0);
        if (rows[i].original == NULL) { /* cut, at the end of a line */
            assert_true(d->original.n > 60000 && d->original.n < 66000);
            assert_true(str_ends_nocase(d->original, STR("...\r\n")));
        }
        letter_free(d);
    }
    buf_free(&big);
}

static void one_long_line(void **state)
{
    (void)state;
    struct buf line;
    buf_init(&line, 1 << 20);
    buf_put_z(&line, "Subject: ");
    for (unsigned i = 0; i < 70000; i++)
        buf_put_char(&line, 'x');
    for (size_t n = 5000; n <= line.n; n += line.n - 5000) { /* longer than a line may be; and no line end in all that is kept */
        struct letter *d = letter_new("ann@here.example");
        letter_add(d, "bob@x.example", RCPT_BOUNCED, "5.1.1", "", STR("no"));
        letter_write(d, str_head(buf_str(&line), n));
        letter_free(d);
    }
    buf_free(&line);
}

/* -- other news ---------------------------------------------------------------------------------------------------------------------- */

/* One recipient of each kind, told of as the action that RFC 3464, 2.3.3 has for it; the others are not mentioned. */
static void what_was_asked_for(void **state)
{
    (void)state;
    struct letter *d = letter_new("ann@here.example");
    letter_add(d, "gone@x.example", RCPT_BOUNCED, "5.1.1", "mx [192.0.2.1]", STR("550 5.1.1 no"));
    letter_add(d, "late@x.example", RCPT_PENDING, "4.2.1", "mx [192.0.2.1]", STR("450 4.2.1 later"));
    letter_add(d, "far@x.example", RCPT_DELIVERED, "2.0.0", "mx [192.0.2.1]", STR("250 2.0.0 ok"));
    letter_add(d, "here@x.example", RCPT_DELIVERED, "2.0.0", "", STR("in the mailbox"));
    letter_add(d, "handed-on@x.example", RCPT_DELIVERED, "2.0.0", "mx [192.0.2.1]", STR("250 2.0.0 ok"));
    letter_add(d, "unasked@x.example", RCPT_DELIVERED, "2.0.0", "", STR("in the mailbox"));
    letter_add(d, "patient@x.example", RCPT_PENDING, "4.2.1", "mx [192.0.2.1]", STR("450 4.2.1 later"));
    letter_add(d, "box@x.example", RCPT_DELIVERED, "2.0.0", "here.example [/run/lmtp]", STR("250 2.0.0 saved"));
    d->rcpts[7].notify = NOTIFY_SUCCESS;
    d->outcomes[7].in_mailbox = true;
    for (size_t i = 0; i < 5; i++)
        d->rcpts[i].notify = NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY;
    d->outcomes[4].dsn_handed_on = true;
    d->tell_delay = true;
    letter_write(d, STR(ORIGINAL));
    static const char *const expected[] = { "failed", "delayed", "relayed", "delivered", "delivered" };
    for (unsigned i = 0; i < 5; i++)
        assert_str(value_of(group(d, i + 1), "Action"), str_of(expected[i]));
    assert_int_equal(group(d, 6).n, 0);
    assert_str(value_of(d->head, "Subject"), STR("Your message could not be delivered"));
    int64_t until;
    assert_true(date_parse(value_of(group(d, 2), "Will-Retry-Until"), &until, NULL));
    assert_int_equal(until, d->claim.env.arrived_ns + d->conf->expire_ns);
    assert_str(value_of(group(d, 1), "Will-Retry-Until"), STR("(missing)"));
    assert_true(str_find_str(d->words, STR("it is still being tried")) > 0);
    assert_true(str_find_str(d->words, STR("<unasked@x.example>")) < 0);
    letter_free(d);
}

static void good_news_has_a_subject_of_its_own(void **state)
{
    (void)state;
    struct letter *d = letter_new("ann@here.example");
    letter_add(d, "here@x.example", RCPT_DELIVERED, "2.0.0", "", STR("in the mailbox"));
    d->rcpts[0].notify = NOTIFY_SUCCESS;
    d->claim.env.ret = RET_FULL;
    letter_write(d, STR(ORIGINAL));
    assert_str(value_of(d->head, "Subject"), STR("Your message has been delivered"));
    assert_str(value_of(d->original, "Content-Type"), STR("text/rfc822-headers"));   /* RET is about failures (RFC 3461, 4.3) */
    letter_free(d);
}

#define UE "\xc3\xbc"

/* RFC 6533: for a sender who can read it all in UTF-8. */
static void an_international_sender(void **state)
{
    (void)state;
    struct letter *d = letter_new("j" UE "@here.example");
    d->claim.env.smtputf8 = true;
    letter_add(d, "r" UE "@x.example", RCPT_BOUNCED, "5.6.7", "mx.x.example", STR("no SMTPUTF8"));
    letter_add(d, "bob@x.example", RCPT_BOUNCED, "5.1.1", "mx.x.example", STR("550 5.1.1 who?"));
    d->rcpts[0].original = STR("utf-8;s\\x{FC}@y.example");
    letter_write(d, STR("Subject: Gr" UE "n\r\n\r\nx\r\n"));
    assert_str(value_of(d->head, "To"), STR("<j" UE "@here.example>"));
    assert_str(value_of(d->head, "Content-Transfer-Encoding"), STR("8bit"));
    assert_str(value_of(d->words, "Content-Transfer-Encoding"), STR("quoted-printable"));
    assert_true(str_find_str(d->words, STR("<r=C3=BC@x.example>")) > 0);
    assert_str(value_of(group(d, 1), "Final-Recipient"), STR("utf-8; r" UE "@x.example"));
    assert_str(value_of(group(d, 1), "Original-Recipient"), STR("utf-8; s\\x{FC}@y.example"));
    assert_str(value_of(group(d, 2), "Final-Recipient"), STR("rfc822; bob@x.example"));
    assert_str(value_of(d->original, "Content-Type"), STR("message/global-headers"));
    assert_true(str_find_str(d->original, STR("Subject: Gr" UE "n\r\n")) > 0);
    letter_free(d);
}

/* All others get what any server takes, whomever they wrote to. */
static void an_international_recipient(void **state)
{
    (void)state;
    struct letter *d = letter_new("ann@here.example");
    d->claim.env.smtputf8 = true;
    d->claim.env.ret = RET_FULL;
    letter_add(d, "\"r" UE "\\\\+ =\"@x.example", RCPT_BOUNCED, "5.6.7", "mx.x.example", STR("no SMTPUTF8"));
    d->claim.body_size = sizeof "Subject: Gr" UE "n\r\n\r\nx\r\n" - 1;
    letter_write(d, STR("Subject: Gr" UE "n\r\n\r\nx\r\n"));
    assert_str(value_of(group(d, 1), "Final-Recipient"), STR("utf-8; \"r\\x{FC}\\x{5C}\\x{5C}\\x{2B}\\x{20}\\x{3D}\"@x.example"));
    assert_str(value_of(d->words, "Content-Type"), STR("text/plain; charset=utf-8"));
    assert_str(value_of(d->original, "Content-Type"), STR("text/rfc822-headers"));   /* message/rfc822 has no room for such a header */
    letter_free(d);
}

static void the_whole_message_where_asked_for(void **state)
{
    (void)state;
    static const struct { uint8_t ret; uint64_t size; const char *type; } rows[] = {
        { RET_FULL,  sizeof ORIGINAL - 1, "message/rfc822"      },
        { RET_FULL,  70000,               "text/rfc822-headers" },   /* too large: only its beginning was read */
        { RET_HDRS,  sizeof ORIGINAL - 1, "text/rfc822-headers" },
        { RET_UNSET, sizeof ORIGINAL - 1, "text/rfc822-headers" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct letter *d = letter_new("ann@here.example");
        letter_add(d, "bob@x.example", RCPT_BOUNCED, "5.1.1", "", STR("no"));
        d->claim.env.ret = rows[i].ret;
        d->claim.body_size = rows[i].size;
        letter_write(d, STR(ORIGINAL));
        assert_str(value_of(d->original, "Content-Type"), str_of(rows[i].type));
        assert_int_equal(str_find_str(d->original, STR("The body")) > 0, i == 0);
        letter_free(d);
    }
}

/* -- who gets one ------------------------------------------------------------------------------------------------------------------- */

struct sending {
    const char *sender;
    uint8_t notify;
    bool eightbit;
    enum rcpt_state expected;
    bool told;
};

static void sending_task(void *arg)
{
    const struct sending *s = arg;
    struct conf *conf = scene_conf("us.example", "us");
    struct queue *q = scene_queue(conf);
    struct claim *claim, *dsn = NULL;
    uint64_t dsn_id = 1;
    struct scene_message message = { s->sender, "a@x.example,b@x.example",
                                     s->eightbit ? STR("Subject: \xe4\r\n\r\n\xf6\r\n") : STR(ORIGINAL), s->eightbit };
    message.notify = s->notify;
    uint64_t id = scene_put(q, &message);
    assert_int_equal(queue_claim(q, task_deadline_in(NS_PER_S), &claim), 0);
    struct outcome outcomes[] = {
        {0,  RCPT_BOUNCED,   STR("5.1.1"), STR("mx [192.0.2.1]"), STR("550 no")},
        { 1, RCPT_DELIVERED, STR("2.0.0"), STR("mx [192.0.2.1]"), STR("250 ok")}
    };
    struct dsn about = { .conf = conf, .claim = claim, .outcomes = outcomes, .count = 2, .now_wall_ns = clock_wall_ns() };
    assert_int_equal(dsn_send(&about, &dsn_id), 0);
    assert_int_equal(outcomes[0].state, s->expected);
    assert_int_equal(outcomes[1].state, RCPT_DELIVERED);
    assert_int_equal(queue_settle(claim, outcomes, 2, 0), 0);
    int r = queue_claim(q, task_deadline_in(NS_PER_S), &dsn);
    if (s->told) {
        char text[400];
        size_t got;
        assert_int_equal(r, 0);
        assert_true(dsn->id == dsn_id && dsn_id != id);
        assert_true(dsn->env.null_sender && dsn->env.rcpt_count == 1 && !dsn->env.body_8bit); /* any server takes it */
        assert_str(address_text(&dsn->arena, &dsn->env.rcpts[0].addr), str_of(s->sender));
        assert_int_equal(queue_read_body(dsn, 0, text, sizeof text, &got), 0);
        assert_int_equal(got, sizeof text);
        queue_unclaim(dsn);
    } else {
        assert_int_equal(r, -ETIMEDOUT);
        assert_int_equal(dsn_id, 0);
        assert_int_equal(queue_count(q), 0);
    }
    queue_close(q);
    conf_unref(conf);
}

static void who_gets_one(void **state)
{
    (void)state;
    static struct sending rows[] = {
        { "ann@here.example", 0,                             false, RCPT_BOUNCED, true  },
        { "ann@here.example", 0,                             true,  RCPT_BOUNCED, true  },
        { "ann@here.example", NOTIFY_FAILURE | NOTIFY_DELAY, false, RCPT_BOUNCED, true  },
        { "ann@here.example", NOTIFY_NEVER,                  false, RCPT_FAILED,  false },
        { "ann@here.example", NOTIFY_DELAY,                  false, RCPT_FAILED,  false },
        { "ann@here.example", NOTIFY_SUCCESS,                false, RCPT_FAILED,  true  },   /* of the other one, that it was handed on */
        { "",                 0,                             false, RCPT_FAILED,  false },   /* never a bounce for a bounce */
        { "",                 NOTIFY_FAILURE,                false, RCPT_FAILED,  false },
        { "",                 NOTIFY_SUCCESS,                false, RCPT_FAILED,  false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        sim_begin(&(struct sim_options){ .seed = i });
        assert_int_equal(sim_run(sending_task, &rows[i]), 0);
        sim_end();
    }
}

/* Without room for the DSN nothing is told, and the caller must not settle it as bounced. */
static void no_room_task(void *arg)
{
    (void)arg;
    struct conf *conf = scene_conf("us.example", "us");
    struct queue *q = scene_queue(conf);
    struct claim *claim;
    uint64_t dsn_id;
    (void)scene_put(q, &(struct scene_message){ "ann@here.example", "a@x.example", STR(ORIGINAL) });
    assert_int_equal(queue_claim(q, task_deadline_in(NS_PER_S), &claim), 0);
    struct outcome outcome = { 0, RCPT_BOUNCED, STR("5.1.1"), STR(""), STR("no") };
    sim_disk_fail(sim_disk_ops(), EIO, true);
    struct dsn about = { .conf = conf, .claim = claim, .outcomes = &outcome, .count = 1, .now_wall_ns = clock_wall_ns() };
    assert_true(dsn_send(&about, &dsn_id) < 0);
    sim_disk_heal();
    assert_int_equal(dsn_send(&about, &dsn_id), 0);
    assert_int_equal(queue_settle(claim, &outcome, 1, 0), 0);
    assert_int_equal(queue_count(q), 1);
    queue_close(q);
    conf_unref(conf);
}

static void no_room(void **state)
{
    (void)state;
    sim_begin(&(struct sim_options){ .seed = 9 });
    assert_int_equal(sim_run(no_room_task, NULL), 0);
    sim_end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_bounce), cmocka_unit_test(only_those_that_failed),
        cmocka_unit_test(our_own_words), cmocka_unit_test(hostile_words),  cmocka_unit_test(the_original_header),
        cmocka_unit_test(one_long_line),  cmocka_unit_test(what_was_asked_for), cmocka_unit_test(good_news_has_a_subject_of_its_own),
        cmocka_unit_test(the_whole_message_where_asked_for), cmocka_unit_test(who_gets_one),
        cmocka_unit_test(no_room), cmocka_unit_test(an_international_sender), cmocka_unit_test(an_international_recipient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
