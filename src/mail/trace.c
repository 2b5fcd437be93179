/*
 * Trace fields. A stranger's words are filtered to what their place allows: what HELO said cannot end the field, open a
 * comment or look like a second clause.
 */
#include "mail/trace.h"
#include "base/arena.h"
#include "mail/date.h"
#include "mail/header.h"

#include <string.h>

enum { TOKEN_MAX = 255 }; /* a domain's room (RFC 5321, 4.5.3.1.2) */

/* A domain, literal, id or protocol: anything else in it becomes a question mark. */
static void put_token(struct buf *out, struct str token, const char *if_empty)
{
    if (token.n == 0)
        buf_put_z(out, if_empty);
    for (size_t i = 0; i < token.n && i < TOKEN_MAX; i++) {
        char c = token.p[i];
        bool allowed = char_is_alnum(c) || (c != '\0' && strchr("-._:[]/+", c) != NULL);
        buf_put_char(out, allowed ? c : '?');
    }
}

static void put_comment(struct buf *out, struct str text)
{
    buf_put_char(out, '(');
    for (size_t i = 0; i < text.n && i < TOKEN_MAX; i++) {
        char c = text.p[i];
        buf_put_char(out, c >= ' ' && c < 0x7f && c != '(' && c != ')' && c != '\\' ? c : '?');
    }
    buf_put_char(out, ')');
}

/* from helo (rdns [ip]) -- RFC 5321, 4.4: From-domain and TCP-info */
static void put_from(struct buf *out, const struct trace_received *r)
{
    buf_put_str(out, STR("from "));
    put_token(out, r->helo, "unknown");
    buf_put_z(out, r->helo.n + r->rdns.n + r->ip.n > 40 ? "\r\n\t(" : " (");
    put_token(out, r->rdns, "unknown");
    buf_put_z(out, str_find(r->ip, ':') >= 0 ? " [IPv6:" : " [");
    put_token(out, r->ip, "unknown");
    buf_put_str(out, STR("])\r\n\t"));
}

void trace_put_received(struct buf *out, const struct trace_received *r)
{
    buf_put_str(out, STR("Received: "));
    if (r->ip.n > 0)
        put_from(out, r);
    if (r->comment.n > 0) {
        put_comment(out, r->comment);
        buf_put_str(out, STR("\r\n\t"));
    }
    buf_put_str(out, STR("by "));
    put_token(out, r->by_host, "unknown");
    buf_put_str(out, STR(" with "));
    put_token(out, r->protocol, "SMTP");
    buf_put_str(out, STR(" id "));
    put_token(out, r->id, "unknown");
    if (r->rcpt != NULL) {
        buf_put_str(out, STR("\r\n\tfor "));
        address_put_path(out, r->rcpt);
    }
    if (r->tls_suite.n > 0) {
        buf_put_str(out, STR("\r\n\ttls "));
        put_token(out, r->tls_suite, "unknown");
    }
    buf_put_str(out, STR(";\r\n\t"));
    date_put(out, r->wall_ns, r->offset_minutes);
    buf_put_str(out, STR("\r\n"));
}

void trace_put_return_path(struct buf *out, const struct address *sender)
{
    buf_put_str(out, STR("Return-Path: "));
    address_put_path(out, sender);
    buf_put_str(out, STR("\r\n"));
}

void trace_put_delivered_to(struct buf *out, const struct address *rcpt)
{
    buf_put_str(out, STR("Delivered-To: "));
    address_put(out, rcpt);
    buf_put_str(out, STR("\r\n"));
}

void trace_put_original_to(struct buf *out, const struct address *rcpt)
{
    buf_put_str(out, STR("X-Original-To: "));
    address_put(out, rcpt);
    buf_put_str(out, STR("\r\n"));
}

bool trace_parse_delivered_to(struct arena *a, struct str value, struct address *out)
{
    return address_parse_with(a, str_trim(header_unfold(a, value)), ADDRESS_UTF8 | ADDRESS_BARE, out);
}

static bool names(struct str value, const struct address *rcpt)
{
    struct arena a;
    struct address addr;

    arena_init(&a, 8192);
    bool same = trace_parse_delivered_to(&a, value, &addr) && address_eq(&addr, rcpt);
    arena_reset(&a);
    return same;
}

bool trace_was_delivered_to(struct str message, const struct address *rcpt)
{
    struct header_iter it;
    struct header_field field;

    for (header_begin(&it, message); header_next(&it, &field);)
        if (str_eq_nocase(field.name, STR("Delivered-To")) && names(field.value, rcpt))
            return true;
    return false;
}
