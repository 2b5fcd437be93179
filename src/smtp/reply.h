/*
 * SMTP replies (RFC 5321, 4.2; RFC 2034): writing ours, reading a server's. Pure.
 */
#ifndef SMTP_REPLY_H
#define SMTP_REPLY_H

#include "base/buf.h"
#include "base/str.h"

#define REPLY_WRITE_LINE_MAX 512   /* RFC 5321, 4.5.3.1.5, CRLF included; longer text goes on in a further line */
#define REPLY_LINES_MAX      100   /* a server that says more is not answering */
#define REPLY_LINE_MAX       4096  /* with its line end; an input buffer of this size always makes progress */
#define REPLY_TEXT_MAX       8192  /* kept of one reply; the rest is read and dropped */
#define REPLY_ENHANCED_MAX   11    /* "5.123.123" and room */

/* -- ours ---------------------------------------------------------------------------------------------------------- */

struct reply {
    int         code;      /* 200 .. 599 */
    const char *enhanced;  /* "5.1.1"; NULL: none (greeting, HELO, EHLO, 354) */
    const char *text;      /* one line, or several separated by '\n'; borrowed */
    bool        utf8;      /* the client asked for UTF-8 (RFC 6531, 3.7.4.2), and text is */
};

static inline struct reply reply(int code, const char *enhanced, const char *text)
{
    return (struct reply){ .code = code, .enhanced = enhanced, .text = text };
}

/* Appends it as lines, each with code, enhanced code and CRLF. Whatever is in text, one reply comes out: controls other
 * than '\n' become \xHH, and so does anything not ASCII without utf8. */
void reply_put(struct buf *out, const struct reply *r);

/* -- a server's ----------------------------------------------------------------------------------------------------- */

/* One reply in the reading; the same object serves a whole connection. */
struct smtp_reply {
    int        code;                          /* 0 until the first line */
    char       enhanced[REPLY_ENHANCED_MAX + 1]; /* "" if there is none that fits the code's class */
    unsigned   lines;
    struct buf text;                          /* lines joined by '\n', codes removed; controls replaced by spaces */
    bool       done, bad;                     /* internal: the last line was read; it cannot be a reply */
};

enum reply_result {
    REPLY_DONE,   /* out is complete; the next call begins another reply */
    REPLY_MORE,   /* give the bytes that were not consumed again, with more behind them */
    REPLY_BAD,    /* no reply, or one beyond the limits: close the connection. Sticky until smtp_reply_clear */
};

void smtp_reply_init(struct smtp_reply *r);
void smtp_reply_clear(struct smtp_reply *r);
void smtp_reply_free(struct smtp_reply *r);

/* Reads whole lines from the beginning of input until the reply is complete. Takes CRLF and a bare LF as line end, and
 * lines that are only a code. *consumed is always set. Splitting the input elsewhere changes nothing in the result. */
enum reply_result smtp_parse_reply(struct str input, size_t *consumed, struct smtp_reply *r);

/* The text as one line, lines joined by a space. A view into r's text, which it alters. */
struct str smtp_reply_line(struct smtp_reply *r);

#endif
