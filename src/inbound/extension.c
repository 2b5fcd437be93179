/*
 * The table of extensions: keyword, when it is offered, what stands behind it, what it allows. Runs in the worker, in the
 * session's task.
 */
#include "inbound/extension.h"
#include "inbound/session_internal.h"
#include "inbound/told.h"
#include "inbound/wishes.h"
#include "smtp/xclient.h"
#include <inttypes.h>

static void put_size(const struct session *s, struct buf *out);
static void put_xclient(const struct session *s, struct buf *out);
static void put_xforward(const struct session *s, struct buf *out);

// clang-format off
static const struct extension_row {
    const char *keyword;
    bool      (*offered)(const struct session *s);                       /* NULL: always */
    void      (*put)(const struct session *s, struct buf *out);          /* what follows the keyword and a space; NULL: nothing does */
    unsigned    mail_params, rcpt_params;                                /* enum smtp_param */
} extensions[EXTENSION_COUNT] = {
    /*                                  keyword                offered                      put           parameters of MAIL, of RCPT */
    [EXTENSION_NONE]                = { "",                    NULL,                        NULL,         0, 0 },
    [EXTENSION_PIPELINING]          = { "PIPELINING",          NULL,                        NULL,         0, 0 },
    [EXTENSION_SIZE]                = { "SIZE",                NULL,                        put_size,     PARAM_SIZE, 0 },
    [EXTENSION_8BITMIME]            = { "8BITMIME",            NULL,                        NULL,         PARAM_BODY, 0 },
    [EXTENSION_DSN]                 = { "DSN",                 NULL,                        NULL,         PARAM_RET | PARAM_ENVID, PARAM_NOTIFY | PARAM_ORCPT },
    [EXTENSION_SMTPUTF8]            = { "SMTPUTF8",            NULL,                        NULL,         PARAM_SMTPUTF8, 0 },
    [EXTENSION_CHUNKING]            = { "CHUNKING",            NULL,                        NULL,         0, 0 },
    [EXTENSION_BINARYMIME]          = { "BINARYMIME",          NULL,                        NULL,         PARAM_BODY, 0 },
    [EXTENSION_ENHANCEDSTATUSCODES] = { "ENHANCEDSTATUSCODES", NULL,                        NULL,         0, 0 },
    [EXTENSION_STARTTLS]            = { "STARTTLS",            session_offers_tls,          NULL,         0, 0 },
    [EXTENSION_AUTH]                = { "AUTH",                session_offers_auth,         session_put_mechanisms, PARAM_AUTH, 0 },
    [EXTENSION_FUTURERELEASE]       = { "FUTURERELEASE",       wishes_offer_future_release, wishes_put_future_release, PARAM_HOLDFOR | PARAM_HOLDUNTIL, 0 },
    [EXTENSION_DELIVERBY]           = { "DELIVERBY",           NULL,                        wishes_put_deliver_by, PARAM_BY, 0 },
    [EXTENSION_MT_PRIORITY]         = { "MT-PRIORITY",         NULL,                        NULL,         PARAM_MT_PRIORITY, 0 },
    [EXTENSION_XCLIENT]             = { "XCLIENT",             told_offers_xclient,         put_xclient,  0, 0 },
    [EXTENSION_XFORWARD]            = { "XFORWARD",            told_offers_xforward,        put_xforward, 0, 0 },
    [EXTENSION_HELP]                = { "HELP",                NULL,                        NULL,         0, 0 },
};
// clang-format on

bool extension_offered(const struct session *s, enum extension e)
{
    return extensions[e].offered == NULL || extensions[e].offered(s);
}

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
