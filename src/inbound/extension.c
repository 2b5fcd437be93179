/*
 * The table of extensions: keyword, when it is offered, what stands behind it, what it allows. Runs in the worker, in the
 * session's task.
 */
#include "inbound/extension.h"
#include "inbound/inquiry.h"
#include "inbound/session_internal.h"
#include "inbound/told.h"
#include "inbound/wishes.h"
#include "smtp/xclient.h"
#include <inttypes.h>

static bool offers_chunking(const struct session *s);
static void put_size(const struct session *s, struct buf *out);
static void put_limits(const struct session *s, struct buf *out);
static void put_xclient(const struct session *s, struct buf *out);
static void put_xforward(const struct session *s, struct buf *out);

#define OFF(extension) (UINT32_C(1) << (extension))
#define DSN_OF_MAIL    (PARAM_RET | PARAM_ENVID)
#define DSN_OF_RCPT    (PARAM_NOTIFY | PARAM_ORCPT)

// clang-format off
static const struct extension_row {
    const char *keyword;
    uint32_t    off;                                                     /* the bit that switches it off; 0: nothing does */
    bool      (*offered)(const struct session *s);                       /* NULL: always */
    void      (*put)(const struct session *s, struct buf *out);          /* what follows the keyword and a space; NULL: nothing does */
    unsigned    mail_params, rcpt_params;                                /* enum smtp_param */
} extensions[EXTENSION_COUNT] = {
    /*                                  keyword                switch                   offered               put                     parameters of MAIL, RCPT */
    [EXTENSION_NONE]                = { "",                    0,                       NULL,                 NULL,                   0, 0 },
    [EXTENSION_PIPELINING]          = { "PIPELINING",          OFF(CONF_PIPELINING),    NULL,                 NULL,                   0, 0 },
    [EXTENSION_SIZE]                = { "SIZE",                OFF(CONF_SIZE),          NULL,                 put_size,               PARAM_SIZE, 0 },
    [EXTENSION_8BITMIME]            = { "8BITMIME",            OFF(CONF_8BITMIME),      NULL,                 NULL,                   PARAM_BODY, 0 },
    [EXTENSION_DSN]                 = { "DSN",                 OFF(CONF_DSN),           NULL,                 NULL,                   DSN_OF_MAIL, DSN_OF_RCPT },
    [EXTENSION_SMTPUTF8]            = { "SMTPUTF8",            OFF(CONF_SMTPUTF8),      NULL,                 NULL,                   PARAM_SMTPUTF8, 0 },
    [EXTENSION_CHUNKING]            = { "CHUNKING",            OFF(CONF_CHUNKING),      NULL,                 NULL,                   0, 0 },
    [EXTENSION_BINARYMIME]          = { "BINARYMIME",          OFF(CONF_BINARYMIME),    offers_chunking,      NULL,                   PARAM_BODY, 0 },
    [EXTENSION_ENHANCEDSTATUSCODES] = { "ENHANCEDSTATUSCODES", OFF(CONF_ENHANCEDSTATUSCODES), NULL,           NULL,                   0, 0 },
    [EXTENSION_STARTTLS]            = { "STARTTLS",            OFF(CONF_STARTTLS),      session_offers_tls,   NULL,                   0, 0 },
    [EXTENSION_AUTH]                = { "AUTH",                OFF(CONF_AUTH),          session_offers_auth,  session_put_mechanisms, PARAM_AUTH, 0 },
    [EXTENSION_FUTURERELEASE]       = { "FUTURERELEASE",       OFF(CONF_FUTURERELEASE), wishes_offer_holding, wishes_put_holding,     PARAM_HOLDFOR | PARAM_HOLDUNTIL, 0 },
    [EXTENSION_DELIVERBY]           = { "DELIVERBY",           OFF(CONF_DELIVERBY),     NULL,                 wishes_put_deliver_by,  PARAM_BY, 0 },
    [EXTENSION_MT_PRIORITY]         = { "MT-PRIORITY",         OFF(CONF_MT_PRIORITY),   NULL,                 NULL,                   PARAM_MT_PRIORITY, 0 },
    [EXTENSION_LIMITS]              = { "LIMITS",              OFF(CONF_LIMITS),        NULL,                 put_limits,             0, 0 },
    [EXTENSION_REQUIRETLS]          = { "REQUIRETLS",          OFF(CONF_REQUIRETLS),    wishes_offer_tls,     NULL,                   PARAM_REQUIRETLS, 0 },
    [EXTENSION_ETRN]                = { "ETRN",                OFF(CONF_ETRN),          inquiry_offers_etrn,  NULL,                   0, 0 },
    [EXTENSION_EXPN]                = { "EXPN",                OFF(CONF_EXPN),          inquiry_offers_expn,  NULL,                   0, 0 },
    [EXTENSION_XCLIENT]             = { "XCLIENT",             OFF(CONF_XCLIENT),       told_offers_xclient,  put_xclient,            0, 0 },
    [EXTENSION_XFORWARD]            = { "XFORWARD",            OFF(CONF_XFORWARD),      told_offers_xforward, put_xforward,           0, 0 },
    [EXTENSION_HELP]                = { "HELP",                0,                       NULL,                 NULL,                   0, 0 },
};
// clang-format on

bool extension_is_off(const struct session *s, enum extension e) { return s->extensions_off & extensions[e].off; }

bool extension_offered(const struct session *s, enum extension e)
{
    return !extension_is_off(s, e) && (extensions[e].offered == NULL || extensions[e].offered(s));
}

/* RFC 3030, 3: BINARYMIME is nothing without CHUNKING. */
static bool offers_chunking(const struct session *s) { return extension_offered(s, EXTENSION_CHUNKING); }

void extensions_put(const struct session *s, struct buf *out)
{
    for (enum extension e = EXTENSION_NONE + 1; e < EXTENSION_COUNT; e++) {
        if (!extension_offered(s, e))
            continue;
        buf_put_char(out, '\n');
        buf_put_z(out, extensions[e].keyword);
        if (extensions[e].put == NULL)
            continue;
        buf_put_char(out, ' ');
        size_t n = out->n;
        extensions[e].put(s, out);
        if (out->n == n)
            buf_truncate(out, n - 1);            /* nothing to say of it */
    }
}

unsigned extensions_mail_params(const struct session *s)
{
    unsigned params = 0;

    for (enum extension e = 0; e < EXTENSION_COUNT; e++)
        params |= extension_offered(s, e) ? extensions[e].mail_params : 0;
    return params;
}

unsigned extensions_rcpt_params(const struct session *s)
{
    unsigned params = 0;

    for (enum extension e = 0; e < EXTENSION_COUNT; e++)
        params |= extension_offered(s, e) ? extensions[e].rcpt_params : 0;
    return params;
}

/* -- what follows a keyword ---------------------------------------------------------------------------------------------- */

static void put_size(const struct session *s, struct buf *out)
{
    buf_printf(out, "%" PRIu64, s->conf->message_size_max);
}

/* RFC 9422: of a transaction, and of a session. */
static void put_limits(const struct session *s, struct buf *out)
{
    buf_printf(out, "RCPTMAX=%u MAILMAX=%u", s->conf->recipients_max, s->conf->messages_per_session_max);
}

static void put_xclient(const struct session *s, struct buf *out)
{
    (void)s;
    buf_put_z(out, XCLIENT_WORDS);
}

static void put_xforward(const struct session *s, struct buf *out)
{
    (void)s;
    buf_put_z(out, XFORWARD_WORDS);
}
