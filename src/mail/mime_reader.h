/*
 * Reading the structure of a MIME message (RFC 2045, 2046) as its bytes come, in bounded memory. Pure.
 *
 * The reader tells a function what it sees, in order. The texts of all events, one behind the other, are the message, byte for byte,
 * and where they are cut depends on the message alone, not on the pieces it came in. The message is raw bytes with CRLF line ends; a
 * bare CR or LF is an ordinary byte here.
 *
 * Strict where readers differ: a line is a delimiter if it is one to every reader, and where two could see two structures (fields twice,
 * lines in a header that are no fields, one delimiter of two multiparts) the reader says that it is lost, and sees only bytes from
 * there on. What it cannot look into (too deep, no boundary, a multipart that says it is encoded) is one part without structure.
 */
#ifndef MAIL_MIME_READER_H
#define MAIL_MIME_READER_H

#include "base/str.h"
#include "mail/mime_field.h"

#define MIME_DEPTH_MAX 50                /* parts in parts */
#define MIME_PARTS_MAX 10000             /* all together */
#define MIME_FIELD_MAX 8192              /* bytes of a Content-Type or Content-Transfer-Encoding field */
#define MIME_LINE_MAX  1024              /* longer lines come in pieces of this; no delimiter is longer */

enum mime_shape {
    MIME_LEAF,
    MIME_OPAQUE,                         /* a multipart or message that is not looked into, and whose content cannot be encoded */
    MIME_CONTAINER,                      /* a multipart */
    MIME_WRAPPER,                        /* a message/rfc822: holds one part, the message */
};

struct mime_part {
    unsigned           index;            /* 0: the whole message; then as they begin */
    unsigned           depth;
    bool               is_message;       /* its header is a message's */
    bool               has_type, has_encoding, has_version;   /* known when the header is over, as are the next three */
    enum mime_shape    shape;
    enum mime_kind     kind;
    enum mime_encoding encoding;
    bool               delimited;        /* a delimiter of its own has been seen */
    bool               closed;           /* and its last one */
    bool               reopened;         /* and one more behind it, which some readers would take for one */
    size_t             boundary_n;
    char               boundary[MIME_BOUNDARY_MAX];
};

enum mime_field { MIME_FIELD_OTHER, MIME_FIELD_TYPE, MIME_FIELD_ENCODING, MIME_FIELD_VERSION, MIME_FIELD_SIGNATURE };

enum mime_seen {
    MIME_OPEN,                           /* a part begins, with its header; no text */
    MIME_FIELD,                          /* of its header */
    MIME_BODY,                           /* the empty line behind it; parts without body have none */
    MIME_CONTENT,                        /* of a leaf or an opaque part */
    MIME_ASIDE,                          /* of a container, before its first part or behind its last: nobody is shown it */
    MIME_DELIMITER,                      /* of a container, with the CRLF before it, which is its own (RFC 2046, 5.1.1) */
    MIME_CLOSE,                          /* a part is over; no text */
    MIME_BYTES,                          /* the reader is lost */
};

struct mime_event {
    enum mime_seen          seen;
    const struct mime_part *part;        /* NULL with MIME_BYTES */
    struct str              text;
    bool                    line_end;    /* text is the CRLF of a line; else it is inside one */
    size_t                  column;      /* of text in its line */
    enum mime_field         field;       /* with MIME_FIELD */
    bool                    at_end;      /* with MIME_CLOSE: the message is over, too */
};

/* 24 KiB. */
struct mime_reader {
    void           (*see)(void *arg, const struct mime_event *event);
    void            *arg;
    bool             lost;               /* for the caller to read */
    bool             in_header;
    bool             have_field;         /* one has begun in this header */
    enum mime_field  field;
    bool             due;                /* a line's CRLF, which may be its own or of the next delimiter */
    bool             in_line;            /* a piece of it has been told */
    size_t           column;
    unsigned         depth;              /* open parts */
    unsigned         count;              /* parts so far */
    size_t           line_n, value_n;
    struct mime_part parts[MIME_DEPTH_MAX];
    char             line[MIME_LINE_MAX];
    char             value[MIME_FIELD_MAX];
};

void mime_reader_begin(struct mime_reader *r, void (*see)(void *arg, const struct mime_event *event), void *arg);
void mime_reader_add(struct mime_reader *r, struct str bytes);
void mime_reader_end(struct mime_reader *r);

#endif
