/*
 * Commands. Two tables say which parameters there are; reading one is a function from its value to the arguments.
 */
#include "smtp/command.h"
#include "base/calendar.h"
#include "base/utf8.h"
#include "mail/date.h"
#include "mail/envelope.h"

#include <assert.h>
#include <string.h>

#define NS INT64_C(1000000000)

// clang-format off
static const char *const verb_names[VERB_COUNT] = {
    [VERB_UNKNOWN] = "",   [VERB_HELO] = "HELO", [VERB_EHLO] = "EHLO", [VERB_LHLO] = "LHLO",         [VERB_MAIL] = "MAIL",
    [VERB_RCPT] = "RCPT",  [VERB_DATA] = "DATA", [VERB_BDAT] = "BDAT", [VERB_RSET] = "RSET",         [VERB_NOOP] = "NOOP",
    [VERB_QUIT] = "QUIT",  [VERB_VRFY] = "VRFY", [VERB_EXPN] = "EXPN", [VERB_HELP] = "HELP",         [VERB_STARTTLS] = "STARTTLS",
    [VERB_AUTH] = "AUTH",  [VERB_ETRN] = "ETRN", [VERB_XCLIENT] = "XCLIENT", [VERB_XFORWARD] = "XFORWARD",
};
// clang-format on

static struct str skip_blanks(struct str s)
{
    while (s.n > 0 && char_is_blank(s.p[0]))
        s = str_from(s, 1);
    return s;
}

/* Up to the first blank; *rest is what follows the blanks. */
static struct str take_word(struct str s, struct str *rest)
{
    size_t n = 0;

    while (n < s.n && !char_is_blank(s.p[n]))
        n++;
    *rest = skip_blanks(str_from(s, n));
    return str_head(s, n);
}

/* -- lines ---------------------------------------------------------------------------------------------------------- */

const char *smtp_verb_name(enum verb verb)
{
    assert(verb < VERB_COUNT);
    return verb_names[verb];
}

void smtp_parse_line(struct str line, struct smtp_line *out)
{
    struct str rest, word = take_word(line, &rest);

    *out = (struct smtp_line){ .verb = VERB_UNKNOWN, .args = str_trim(line) };
    if (str_find(line, '\0') >= 0 || str_find(line, '\r') >= 0 || str_find(line, '\n') >= 0)
        return;
    for (enum verb verb = VERB_UNKNOWN + 1; verb < VERB_COUNT; verb++)
        if (str_eq_nocase(word, str_of(verb_names[verb]))) {
            *out = (struct smtp_line){ .verb = verb, .args = str_trim(rest) };
            return;
        }
}

enum smtp_parse smtp_parse_hello(struct arena *a, struct str args, struct str *out)
{
    struct str rest, word = take_word(args, &rest);

    if (word.n == 0 || word.n > 255)
        return SMTP_BAD_SYNTAX;
    for (size_t i = 0; i < word.n; i++)
        if (word.p[i] <= ' ' || word.p[i] >= 0x7f)
            return SMTP_BAD_SYNTAX;
    struct str copy = str_copy(a, word);
    if (copy.p == NULL)
        return SMTP_NO_MEMORY;
    *out = copy;
    return SMTP_OK;
}

enum smtp_parse smtp_parse_bdat(struct str args, uint64_t *out_size, bool *out_last)
{
    struct str rest, word = take_word(args, &rest);
    bool last = str_eq_nocase(rest, STR("LAST"));

    if (!str_to_u64(word, UINT64_MAX, out_size))
        return SMTP_BAD_SYNTAX;
    if (rest.n > 0 && !last)
        return SMTP_BAD_PARAMETER;
    *out_last = last;
    return SMTP_OK;
}

/* -- xtext (RFC 3461, 4) -------------------------------------------------------------------------------------------- */

void smtp_put_xtext(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c > ' ' && c < 0x7f && c != '+' && c != '=')
            buf_put_char(out, c);
        else
            buf_printf(out, "+%02X", (unsigned char)c);
    }
}

static int hex_value(char c) /* upper case only (RFC 3461, 4) */
{
    return char_is_digit(c) ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Decoded; no controls come out, and UTF-8 only where it is taken. */
static bool decode_xtext(struct arena *a, struct str xtext, bool utf8, struct str *out)
{
    char *text = arena_alloc(a, xtext.n);
    size_t n = 0;

    if (text == NULL)
        return false;
    for (size_t i = 0; i < xtext.n; i++) {
        int c = (unsigned char)xtext.p[i];
        if (c <= ' ' || c == '=' || c >= 0x7f)
            return false;
        if (c == '+') {
            if (xtext.n - i < 3 || hex_value(xtext.p[i + 1]) < 0 || hex_value(xtext.p[i + 2]) < 0)
                return false;
            c = hex_value(xtext.p[i + 1]) * 16 + hex_value(xtext.p[i + 2]);
            i += 2;
        }
        if (c < ' ' || c == 0x7f || (c > 0x7f && !utf8))
            return false;
        text[n++] = (char)c;
    }
    if (!utf8_valid((struct str){ text, n }))
        return false;
    *out = (struct str){ text, n };
    return true;
}

bool smtp_parse_xtext(struct arena *a, struct str xtext, struct str *out) { return decode_xtext(a, xtext, false, out); }

/* -- values of parameters; each false if its value is bad ------------------------------------------------------------ */

/* size-value = 1*20DIGIT (RFC 1870, 6): some are more than a uint64_t holds, and all of those are too big. */
static bool read_size(struct arena *a, struct str value, void *args)
{
    struct mail_args *mail = args;

    (void)a;
    if (value.n > 20)
        return false;
    for (size_t i = 0; i < value.n; i++)
        if (!char_is_digit(value.p[i]))
            return false;
    if (!str_to_u64(value, UINT64_MAX, &mail->size))
        mail->size = UINT64_MAX;
    return true;
}

static bool read_body(struct arena *a, struct str value, void *args)
{
    struct mail_args *mail = args;

    (void)a;
    if (str_eq_nocase(value, STR("7BIT")))
        mail->body = BODY_7BIT;
    else if (str_eq_nocase(value, STR("8BITMIME")))
        mail->body = BODY_8BITMIME;
    else if (str_eq_nocase(value, STR("BINARYMIME")))
        mail->body = BODY_BINARYMIME;
    return mail->body != BODY_UNSET;
}

static bool read_ret(struct arena *a, struct str value, void *args)
{
    struct mail_args *mail = args;

    (void)a;
    if (str_eq_nocase(value, STR("FULL")))
        mail->ret = RET_FULL;
    else if (str_eq_nocase(value, STR("HDRS")))
        mail->ret = RET_HDRS;
    return mail->ret != RET_UNSET;
}

static bool read_envid(struct arena *a, struct str value, void *args)
{
    return value.n > 0 && value.n <= SMTP_ENVID_MAX && smtp_parse_xtext(a, value, &((struct mail_args *)args)->envid);
}

/* A mailbox, or "<>" (RFC 4954, 5) */
static bool read_auth(struct arena *a, struct str value, void *args)
{
    struct mail_args *mail = args;
    struct address who;

    if (value.n == 0 || value.n > SMTP_ORCPT_MAX || !smtp_parse_xtext(a, value, &mail->auth))
        return false;
    return str_eq(mail->auth, STR("<>")) || address_parse(a, mail->auth, &who);
}

/* priority-value = ( ["-"] NZDIGIT ) / "0" (RFC 6710, 2) */
static bool read_priority(struct arena *a, struct str value, void *args)
{
    bool negative = str_starts(value, STR("-"));
    uint64_t n;

    (void)a;
    if (value.n != 1u + negative || !str_to_u64(str_from(value, negative), 9, &n) || (negative && n == 0))
        return false;
    ((struct mail_args *)args)->priority = negative ? -(int)n : (int)n;
    return true;
}

static bool read_hold_for(struct arena *a, struct str value, void *args)
{
    (void)a;
    return value.n <= 9 && str_to_u64(value, 999999999, &((struct mail_args *)args)->hold_for_s); /* RFC 4865, 4 */
}

/* Whole seconds: what is written again says no more. */
static bool read_seconds(struct str value, int64_t *out_ns)
{
    int64_t ns;

    if (!date_parse_iso(value, &ns))
        return false;
    *out_ns = ns - ((ns % NS) + NS) % NS;
    return true;
}

static bool read_hold_until(struct arena *a, struct str value, void *args)
{
    (void)a;
    return read_seconds(value, &((struct mail_args *)args)->hold_until_ns);
}

/* by-value = by-time ";" by-mode [by-trace]; a return deadline must lie ahead (RFC 2852, 4) */
static bool read_by(struct arena *a, struct str value, void *args)
{
    struct mail_args *mail = args;
    struct str time, mode;
    uint64_t seconds;

    (void)a;
    if (!str_cut(value, ';', &time, &mode) || mode.n < 1 || mode.n > 2)
        return false;
    bool negative = str_starts(time, STR("-"));
    bool has_sign = negative || str_starts(time, STR("+"));
    char letter = char_lower(mode.p[0]);
    if (!str_to_u64(str_from(time, has_sign), 999999999, &seconds) || (letter != 'r' && letter != 'n') ||
        (mode.n == 2 && char_lower(mode.p[1]) != 't') || (letter == 'r' && (negative || seconds == 0)))
        return false;
    mail->by_s = negative ? -(int64_t)seconds : (int64_t)seconds;
    mail->by_mode = letter == 'r' ? 'R' : 'N';
    mail->by_trace = mode.n == 2;
    return true;
}

static uint8_t notify_bit(struct str word)
{
    // clang-format off
    static const struct {
        const char *word;
        uint8_t     bit;
    } words[] = { { "NEVER", NOTIFY_NEVER }, { "SUCCESS", NOTIFY_SUCCESS }, { "FAILURE", NOTIFY_FAILURE }, { "DELAY", NOTIFY_DELAY } };
    // clang-format on

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (str_eq_nocase(word, str_of(words[i].word)))
            return words[i].bit;
    return 0;
}

/* "NEVER" alone, or a list of the others (RFC 3461, 4.1) */
static bool read_notify(struct arena *a, struct str value, void *args)
{
    struct str rest = value, word;
    uint8_t notify = 0;
    bool more;

    (void)a;
    do {
        more = str_cut(rest, ',', &word, &rest);
        uint8_t bit = notify_bit(word);
        if (bit == 0)
            return false;
        notify |= bit;
    } while (more);
    if ((notify & NOTIFY_NEVER) && notify != NOTIFY_NEVER)
        return false;
    ((struct rcpt_args *)args)->notify = notify;
    return true;
}

static bool is_utf8_type(struct str type)
{
    return str_eq_nocase(type, STR("utf-8"));
}

/* Of type utf-8 the text has an encoding of its own (RFC 6533, 3), or is UTF-8 as it is. The one for which it does not matter where it
 * goes is kept: the encoded one. */
static bool read_utf8_address(struct arena *a, struct str text, struct str *out)
{
    char bytes[SMTP_ORCPT_MAX];
    struct buf encoded;
    uint32_t c;

    buf_init_fixed(&encoded, bytes, sizeof bytes);
    for (size_t n; text.n > 0; text = str_from(text, n)) {
        n = utf8_next(text, &c);
        if (n == 0 || c == '+' || c == '=' || c <= ' ' || (c >= 0x7f && c < 0xa0))
            return false;
        if (n == 1)
            buf_put_char(&encoded, (char)c);
        else
            buf_printf(&encoded, "\\x{%X}", (unsigned)c);
    }
    struct str copy = buf_ok(&encoded) ? str_copy(a, buf_str(&encoded)) : STR("");
    if (copy.n == 0)
        return false;
    *out = copy;
    return true;
}

/* Of type rfc822, with UTF-8 in its xtext: wrong, and what Postfix makes of an address that is not ASCII. It means one of type utf-8. */
static bool read_rfc822_address(struct arena *a, struct str xtext, struct str *type, struct str *out)
{
    char bytes[SMTP_ORCPT_MAX];
    struct buf encoded;
    struct str text;

    if (!decode_xtext(a, xtext, str_eq_nocase(*type, STR("rfc822")), &text))
        return false;
    if (utf8_is_ascii(text)) {
        *out = text;
        return true;
    }
    buf_init_fixed(&encoded, bytes, sizeof bytes);
    utf8_xtext_put(&encoded, text);
    *out = buf_ok(&encoded) ? str_copy(a, buf_str(&encoded)) : STR("");
    *type = STR("utf-8");
    return out->n > 0;
}

/* addr-type ";" xtext (RFC 3461, 4.2) */
static bool read_orcpt(struct arena *a, struct str value, void *args)
{
    struct arena_mark before = arena_mark(a);
    char bytes[2 * SMTP_ORCPT_MAX];
    struct str type, text;
    struct buf whole;

    if (value.n > SMTP_ORCPT_MAX || !str_cut(value, ';', &type, &text) || type.n == 0 || text.n == 0)
        return false;
    for (size_t i = 0; i < type.n; i++)
        if (!char_is_alnum(type.p[i]) && type.p[i] != '-')
            return false;
    if (is_utf8_type(type) ? !read_utf8_address(a, text, &text) : !read_rfc822_address(a, text, &type, &text))
        return false;
    buf_init_fixed(&whole, bytes, sizeof bytes);
    for (size_t i = 0; i < type.n; i++)
        buf_put_char(&whole, char_lower(type.p[i]));
    buf_put_char(&whole, ';');
    buf_put_str(&whole, text);
    arena_rewind(a, before);             /* one copy of it stays: a message may have a thousand */
    struct str orcpt = buf_ok(&whole) ? str_copy(a, buf_str(&whole)) : STR("");
    if (orcpt.n == 0)
        return false;
    ((struct rcpt_args *)args)->orcpt = orcpt;
    return true;
}

/* date-time [";" ("C" / "R")]; R, to reject, if nothing is said (RFC 7293, 3.1) */
static bool read_rrvs(struct arena *a, struct str value, void *args)
{
    struct rcpt_args *rcpt = args;
    struct str time, action;
    bool has_action = str_cut(value, ';', &time, &action);

    (void)a;
    rcpt->rrvs_reject = !has_action || str_eq_nocase(action, STR("R"));
    return (rcpt->rrvs_reject || str_eq_nocase(action, STR("C"))) && read_seconds(time, &rcpt->rrvs_ns);
}

// clang-format off
struct param_row {
    const char     *name;
    enum smtp_param bit;
    bool          (*read)(struct arena *a, struct str value, void *args);   /* NULL: it takes no value */
};

static const struct param_row mail_params[] = {
    { "SIZE",        PARAM_SIZE,        read_size       },
    { "BODY",        PARAM_BODY,        read_body       },
    { "SMTPUTF8",    PARAM_SMTPUTF8,    NULL            },
    { "RET",         PARAM_RET,         read_ret        },
    { "ENVID",       PARAM_ENVID,       read_envid      },
    { "AUTH",        PARAM_AUTH,        read_auth       },
    { "REQUIRETLS",  PARAM_REQUIRETLS,  NULL            },
    { "MT-PRIORITY", PARAM_MT_PRIORITY, read_priority   },
    { "HOLDFOR",     PARAM_HOLDFOR,     read_hold_for   },
    { "HOLDUNTIL",   PARAM_HOLDUNTIL,   read_hold_until },
    { "BY",          PARAM_BY,          read_by         },
    { NULL },
};

static const struct param_row rcpt_params[] = {
    { "NOTIFY",      PARAM_NOTIFY,      read_notify     },
    { "ORCPT",       PARAM_ORCPT,       read_orcpt      },
    { "RRVS",        PARAM_RRVS,        read_rrvs       },
    { NULL },
};
// clang-format on

/* -- MAIL and RCPT -------------------------------------------------------------------------------------------------- */

/* esmtp-keyword (RFC 5321, 4.1.2) */
static bool is_keyword(struct str name)
{
    if (name.n == 0 || name.p[0] == '-')
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (!char_is_alnum(name.p[i]) && name.p[i] != '-')
            return false;
    return true;
}

/* esmtp-value: printable, without "=" (RFC 5321, 4.1.2), UTF-8 too (RFC 6531, 3.3). */
static bool is_value(struct str value)
{
    for (size_t i = 0; i < value.n; i++)
        if ((unsigned char)value.p[i] <= ' ' || value.p[i] == 0x7f || value.p[i] == '=')
            return false;
    return value.n > 0 && utf8_valid(value);
}

static const struct param_row *find_param(const struct param_row *rows, struct str name)
{
    while (rows->name != NULL && !str_eq_nocase(name, str_of(rows->name)))
        rows++;
    return rows->name == NULL ? NULL : rows;
}

static enum smtp_parse read_param(struct arena *a, struct str word, const struct param_row *rows, void *args, unsigned *seen,
                                  struct str *name)
{
    struct str value;
    bool has_value = str_cut(word, '=', name, &value);

    if (!is_keyword(*name))
        return SMTP_BAD_SYNTAX;
    const struct param_row *row = find_param(rows, *name);
    if (row == NULL)
        return SMTP_UNKNOWN_PARAMETER;
    if (*seen & row->bit)
        return SMTP_DUPLICATE_PARAMETER;
    if (has_value != (row->read != NULL) || (has_value && (!is_value(value) || !row->read(a, value, args))))
        return arena_failed(a) ? SMTP_NO_MEMORY : SMTP_BAD_PARAMETER;
    *seen |= row->bit;
    return SMTP_OK;
}

static enum smtp_parse read_params(struct arena *a, struct str rest, const struct param_row *rows, void *args, unsigned *seen,
                                   struct str *culprit)
{
    while (rest.n > 0) {
        struct str name = STR("");
        enum smtp_parse r = read_param(a, take_word(rest, &rest), rows, args, seen, &name);
        if (r == SMTP_OK)
            continue;
        if (r != SMTP_BAD_SYNTAX && r != SMTP_NO_MEMORY && culprit != NULL)
            *culprit = name;
        return r;
    }
    return SMTP_OK;
}

/* "FROM:" or "TO:", blanks that should not be there, the path, and a blank or nothing behind it. */
static enum smtp_parse read_path(struct arena *a, struct str args, struct str keyword, unsigned options, struct address *out,
                                 struct str *written, struct str *rest)
{
    size_t consumed;

    if (!str_starts_nocase(args, keyword))
        return SMTP_BAD_SYNTAX;
    args = skip_blanks(str_from(args, keyword.n)); /* "MAIL FROM: <a@b>" is wrong, and everywhere */
    if (!str_starts(args, STR("<")))
        return SMTP_BAD_SYNTAX;
    if (!address_parse_path(a, args, options, out, &consumed))
        return arena_failed(a) ? SMTP_NO_MEMORY : SMTP_BAD_ADDRESS;
    if (consumed < args.n && !char_is_blank(args.p[consumed]))
        return SMTP_BAD_SYNTAX;
    *written = str_head(args, consumed);
    *rest = skip_blanks(str_from(args, consumed));
    return SMTP_OK;
}

enum smtp_parse smtp_parse_mail(struct arena *a, struct str args, struct mail_args *out, struct str *culprit)
{
    struct mail_args mail = { .seen = 0 };
    struct str written, rest;

    enum smtp_parse r = read_path(a, args, STR("FROM:"), ADDRESS_NULL | ADDRESS_UTF8, &mail.sender, &written, &rest);
    if (r == SMTP_OK)
        r = read_params(a, rest, mail_params, &mail, &mail.seen, culprit);
    if (r != SMTP_OK)
        return r;
    if ((mail.seen & PARAM_HOLDFOR) && (mail.seen & PARAM_HOLDUNTIL)) { /* one of them (RFC 4865, 4) */
        if (culprit != NULL)
            *culprit = STR("HOLDUNTIL");
        return SMTP_BAD_PARAMETER;
    }
    if (!(mail.seen & PARAM_SMTPUTF8) && !utf8_is_ascii(written))
        return SMTP_NEEDS_UTF8;
    mail.null_sender = address_is_null(&mail.sender);
    *out = mail;
    return SMTP_OK;
}

static enum smtp_parse parse_rcpt(struct arena *a, struct str args, bool utf8, struct rcpt_args *out, struct str *culprit)
{
    struct rcpt_args rcpt = { .seen = 0 };
    struct str written, rest;

    enum smtp_parse r = read_path(a, args, STR("TO:"), ADDRESS_POSTMASTER | ADDRESS_UTF8, &rcpt.rcpt, &written, &rest);
    if (r == SMTP_OK)
        r = read_params(a, rest, rcpt_params, &rcpt, &rcpt.seen, culprit);
    if (r != SMTP_OK)
        return r;
    if (!utf8 && !utf8_is_ascii(written))
        return SMTP_NEEDS_UTF8;
    if (!utf8 && !utf8_is_ascii(rest)) { /* RFC 6533, 3: only an ORCPT can be so, and only with SMTPUTF8 */
        if (culprit != NULL)
            *culprit = STR("ORCPT");
        return SMTP_BAD_PARAMETER;
    }
    *out = rcpt;
    return SMTP_OK;
}

enum smtp_parse smtp_parse_rcpt(struct arena *a, struct str args, struct rcpt_args *out, struct str *culprit)
{
    return parse_rcpt(a, args, false, out, culprit);
}

enum smtp_parse smtp_parse_rcpt_utf8(struct arena *a, struct str args, struct rcpt_args *out, struct str *culprit)
{
    return parse_rcpt(a, args, true, out, culprit);
}

/* -- writing -------------------------------------------------------------------------------------------------------- */

static const char *body_name(enum smtp_body body)
{
    switch (body) {
    case BODY_UNSET: break;
    case BODY_7BIT: return "7BIT";
    case BODY_8BITMIME: return "8BITMIME";
    case BODY_BINARYMIME: return "BINARYMIME";
    }
    assert(!"a body that was seen is set");
    return "";
}

static void put_time(struct buf *out, const char *keyword, int64_t wall_ns)
{
    buf_put_z(out, keyword);
    calendar_put_iso(out, wall_ns, false);
}

static void put_by(struct buf *out, const struct mail_args *args)
{
    buf_printf(out, " BY=%lld;%c%s", (long long)args->by_s, args->by_mode, args->by_trace ? "T" : "");
}

void smtp_put_mail(struct buf *out, const struct mail_args *args)
{
    assert(args->null_sender == address_is_null(&args->sender));
    buf_put_str(out, STR("MAIL FROM:"));
    address_put_path(out, &args->sender);
    if (args->seen & PARAM_SIZE)
        buf_printf(out, " SIZE=%llu", (unsigned long long)args->size);
    if (args->seen & PARAM_BODY)
        buf_printf(out, " BODY=%s", body_name(args->body));
    if (args->seen & PARAM_SMTPUTF8)
        buf_put_str(out, STR(" SMTPUTF8"));
    if (args->seen & PARAM_RET)
        buf_put_z(out, args->ret == RET_FULL ? " RET=FULL" : " RET=HDRS");
    if (args->seen & PARAM_ENVID) {
        buf_put_str(out, STR(" ENVID="));
        smtp_put_xtext(out, args->envid);
    }
    if (args->seen & PARAM_AUTH) {
        buf_put_str(out, STR(" AUTH="));
        smtp_put_xtext(out, args->auth);
    }
    if (args->seen & PARAM_REQUIRETLS)
        buf_put_str(out, STR(" REQUIRETLS"));
    if (args->seen & PARAM_MT_PRIORITY)
        buf_printf(out, " MT-PRIORITY=%d", args->priority);
    if (args->seen & PARAM_HOLDFOR)
        buf_printf(out, " HOLDFOR=%llu", (unsigned long long)args->hold_for_s);
    if (args->seen & PARAM_HOLDUNTIL)
        put_time(out, " HOLDUNTIL=", args->hold_until_ns);
    if (args->seen & PARAM_BY)
        put_by(out, args);
    buf_put_str(out, STR("\r\n"));
}

static void put_notify(struct buf *out, uint8_t notify)
{
    static const char *const words[] = { "NEVER", "SUCCESS", "FAILURE", "DELAY" };
    const char *separator = " NOTIFY=";

    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++)
        if (notify & 1u << i) {
            buf_put_z(out, separator);
            buf_put_z(out, words[i]);
            separator = ",";
        }
}

static void put_orcpt(struct buf *out, struct str orcpt)
{
    struct str type, text;

    (void)str_cut(orcpt, ';', &type, &text);
    buf_put_str(out, STR(" ORCPT="));
    smtp_put_xtext(out, type);
    buf_put_char(out, ';');
    smtp_put_xtext(out, text); /* changes nothing in text of type utf-8, which was read without "+" and "=" */
}

void smtp_put_rcpt(struct buf *out, const struct rcpt_args *args)
{
    buf_put_str(out, STR("RCPT TO:"));
    address_put_path(out, &args->rcpt);
    if (args->seen & PARAM_NOTIFY)
        put_notify(out, args->notify);
    if (args->seen & PARAM_ORCPT)
        put_orcpt(out, args->orcpt);
    if (args->seen & PARAM_RRVS) {
        put_time(out, " RRVS=", args->rrvs_ns);
        buf_put_z(out, args->rrvs_reject ? ";R" : ";C");
    }
    buf_put_str(out, STR("\r\n"));
}
