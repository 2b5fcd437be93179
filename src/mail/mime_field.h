/*
 * Reading the two fields that say what a part of a message is: Content-Type and Content-Transfer-Encoding (RFC 2045, 5 and 6). Pure.
 *
 * Values may be as wrong as they like: what cannot be understood has a value of its own, never an error.
 */
#ifndef MAIL_MIME_FIELD_H
#define MAIL_MIME_FIELD_H

#include "base/buf.h"
#include "base/str.h"

#define MIME_BOUNDARY_MAX 256            /* RFC 2046, 5.1.1 allows 70; some write more */

/* Kinds, as far as they matter for the structure and for what may be encoded. */
enum mime_kind {
    MIME_TEXT,                           /* text/anything, and what says nothing that can be understood (RFC 2045, 5.2) */
    MIME_DATA,                           /* image, application, ...; message/global and its sisters too, which may be encoded (RFC 6532, 3.5) */
    MIME_MULTIPART,                      /* any subtype but those two (RFC 2046, 5.1.7) */
    MIME_SIGNED,                         /* multipart/signed (RFC 1847) */
    MIME_DIGEST,                         /* multipart/digest: its parts are messages unless they say otherwise (RFC 2046, 5.1.5) */
    MIME_MESSAGE,                        /* message/rfc822 */
    MIME_SEALED,                         /* other message types: must be 7bit, and may not be encoded (RFC 2045, 6.4; RFC 2046, 5.2.2.1);
                                          * and a multipart or message whose type is written so that readers differ */
};

enum mime_encoding {
    MIME_UNLABELLED,                     /* no field: 7bit */
    MIME_7BIT, MIME_8BIT, MIME_BINARY,
    MIME_QUOTED_PRINTABLE, MIME_BASE64,
    MIME_UNKNOWN,
};

/* The value of Content-Type. The boundary parameter, unquoted, without blanks at its end, is appended to `boundary`; nothing if there
 * is none, two, or one that is longer than MIME_BOUNDARY_MAX. */
enum mime_kind mime_read_type(struct str value, struct buf *boundary);

/* The value of Content-Transfer-Encoding. */
enum mime_encoding mime_read_encoding(struct str value);

#endif
