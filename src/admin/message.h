/*
 * A message put together from pieces, for send and sendmail. Pure.
 */
#ifndef ADMIN_MESSAGE_H
#define ADMIN_MESSAGE_H

#include "base/arena.h"
#include "base/buf.h"
#include "mail/address.h"

struct message_file {
    const char *name;                    /* as the recipient sees it */
    struct str  bytes;
};

struct message_parts {
    struct address             from;
    const struct address      *to;
    size_t                     to_count;
    struct str                 subject;  /* UTF-8 */
    struct str                 text;     /* UTF-8; LF or CRLF */
    const char *const         *headers;  /* "Name: value", NULL-ended */
    const struct message_file *files;
    size_t                     file_count;
    const char                *host;     /* for the Message-ID */
};

/* False for a header that is none. */
bool message_put(struct buf *out, const struct message_parts *parts, int64_t now_wall_ns);

/* Line ends as SMTP wants them: LF, CR and CRLF all become CRLF; the last line gets one. */
void message_put_crlf(struct buf *out, struct str text);

#endif
