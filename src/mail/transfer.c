/*
 * Content-transfer-encodings in pieces: see transfer.h.
 */
#include "mail/transfer.h"
#include "base/codec.h"
#include <string.h>

enum {
    COLUMNS = 76,                        /* RFC 2045, 6.7 (5) and 6.8 */
    MEND_COLUMNS = 900,                  /* well below the 998 of RFC 5321, 4.5.3.1.6, and hardly ever there without need */
};

/* -- quoted-printable ----------------------------------------------------------------------------------------------------- */

static void put_escaped(struct buf *out, char c)
{
    static const char hex[] = "0123456789ABCDEF";
    unsigned char byte = (unsigned char)c;

    buf_put(out, (char[]){ '=', hex[byte >> 4], hex[byte & 15] }, 3);
}

static void soft_break(size_t *column, struct buf *out)
{
    buf_put_str(out, STR("=\r\n"));
    *column = 0;
}

/* Blanks may stand for themselves except where a relay could strip them: at the end of a line (RFC 2045, 6.7 (3)). */
static bool is_literal(char c, bool last)
{
    if (c == ' ' || c == '\t')
        return !last;
    return c > ' ' && c < 0x7f && c != '=';
}

/* c, which is the last of its line or has `next` behind it. */
static void put_qp(struct transfer_qp *q, char c, bool last, char next, struct buf *out)
{
    bool literal = is_literal(c, last);

    if (q->column + (literal ? 1 : 3) > COLUMNS - (last ? 0 : 1))   /* the last column is for the "=" of a soft break */
        soft_break(&q->column, out);
    if (q->column == 0 && c == '-' && !last && next == '-')
        literal = false;
    if (literal)
        buf_put_char(out, c);
    else
        put_escaped(out, c);
    q->column += literal ? 1 : 3;
}

void transfer_qp_run(struct transfer_qp *q, struct str run, struct buf *out)
{
    for (size_t i = 0; i < run.n; i++) {
        if (q->has_held)
            put_qp(q, q->held, false, run.p[i], out);
        q->held = run.p[i];
        q->has_held = true;
    }
}

void transfer_qp_end(struct transfer_qp *q, struct buf *out)
{
    if (q->has_held)
        put_qp(q, q->held, true, '\0', out);
    q->has_held = false;
}

void transfer_qp_line_end(struct transfer_qp *q, struct buf *out)
{
    transfer_qp_end(q, out);
    buf_put_str(out, STR("\r\n"));
    q->column = 0;
}

void transfer_qp_end_alone(struct transfer_qp *q, struct buf *out)
{
    if (!q->has_held)
        return;
    put_qp(q, q->held, false, '\0', out);
    soft_break(&q->column, out);
    q->has_held = false;
}

/* -- base64 --------------------------------------------------------------------------------------------------------------- */

static void put_base64_line(struct transfer_base64 *b, struct buf *out)
{
    if (b->begun)
        buf_put_str(out, STR("\r\n"));
    codec_put_base64(out, (struct str){ b->held, b->n });
    b->begun = true;
    b->n = 0;
}

void transfer_base64_run(struct transfer_base64 *b, struct str run, struct buf *out)
{
    while (run.n > 0) {
        if (b->n == sizeof b->held)
            put_base64_line(b, out);
        struct str part = str_head(run, sizeof b->held - b->n);
        memcpy(b->held + b->n, part.p, part.n);
        b->n += part.n;
        run = str_from(run, part.n);
    }
}

void transfer_base64_end(struct transfer_base64 *b, struct buf *out)
{
    if (b->n > 0)
        put_base64_line(b, out);
}

uint64_t transfer_base64_size(uint64_t bytes)
{
    const uint64_t per_line = sizeof((struct transfer_base64 *)NULL)->held;
    uint64_t lines = (bytes + per_line - 1) / per_line;

    return (bytes + 2) / 3 * 4 + (lines > 0 ? 2 * (lines - 1) : 0);
}

/* -- mending -------------------------------------------------------------------------------------------------------------- */

static bool is_fit(char c)
{
    return (c >= ' ' && c < 0x7f) || c == '\t';
}

void transfer_mend_qp_run(struct transfer_mend_qp *m, struct str run, struct buf *out)
{
    for (size_t i = 0; i < run.n; i++) {
        char c = run.p[i];
        bool broken = m->column >= MEND_COLUMNS && m->in_escape == 0;
        if (broken)
            soft_break(&m->column, out);
        bool fit = is_fit(c) && !(broken && c == '-');         /* the lines that we begin cannot be delimiters */
        if (fit)
            buf_put_char(out, c);
        else
            put_escaped(out, c);
        m->column += fit ? 1 : 3;
        m->in_escape = c == '=' ? 2 : m->in_escape > 0 ? m->in_escape - 1 : 0;
    }
}

void transfer_mend_qp_line_end(struct transfer_mend_qp *m, struct buf *out)
{
    buf_put_str(out, STR("\r\n"));
    *m = (struct transfer_mend_qp){ 0 };
}

static bool is_base64(char c)
{
    return (c >= '0' && c <= '9') || (char_lower(c) >= 'a' && char_lower(c) <= 'z') || c == '+' || c == '/' || c == '=';
}

void transfer_mend_base64_run(struct transfer_mend_base64 *m, struct str run, struct buf *out)
{
    for (size_t i = 0; i < run.n; i++) {
        if (!is_base64(run.p[i]))
            continue;
        if (m->column == COLUMNS) {
            buf_put_str(out, STR("\r\n"));
            m->column = 0;
        }
        buf_put_char(out, run.p[i]);
        m->column++;
    }
}
