/*
 * Making a message with 8-bit or binary content fit for a server that takes only 7 bits (RFC 6152, 3; RFC 2045, 6). Pure.
 *
 * The message is given twice, in pieces of any size: first to be scanned, which tells whether and how it can be done, then to be
 * written. Memory is bounded (at most 40 KiB), whatever the message.
 *
 * A leaf part that holds 8-bit octets, NUL, a bare CR or LF, or a line of more than 998 octets is encoded: text in quoted-printable or
 * base64, whichever is shorter, other data in base64; one that says it is encoded already is mended. The multiparts and messages around it
 * are 7bit then. Every other part stays as it is, byte for byte; so does a message in which there is nothing to do, and all headers
 * but for the fields that say the above.
 *
 * Readers find the same parts with the same content in it. Two things are lost on purpose: signatures over the bytes (DKIM,
 * multipart/signed), which is told, and text before the first part or behind the last of a multipart, which nobody is shown
 * (RFC 2046, 5.1.1), where that text itself is not 7-bit.
 *
 * Where no Content-Type says what an 8-bit text is, one is added: charset utf-8 if the text is UTF-8, else unknown-8bit (RFC 1428, 3). A
 * Content-Type that is there without a charset is left alone: HTML may name its charset inside, and readers guess as they did.
 */
#ifndef MAIL_CONVERT_H
#define MAIL_CONVERT_H

#include "base/buf.h"
#include "base/str.h"

#define CONVERT_LINE_MAX 998             /* RFC 5321, 4.5.3.1.6, without CRLF */

enum convert_verdict {
    CONVERT_NOTHING,                     /* it is 7-bit as it is */
    CONVERT_POSSIBLE,
    CONVERT_HEADER,                      /* 8-bit, NUL or bare line ends in a header */
    CONVERT_SEALED,                      /* 8-bit in a message/partial or the like, which may not be encoded */
    CONVERT_ENCODING,                    /* 8-bit in a part with a transfer encoding that we do not know */
    CONVERT_STRUCTURE,                   /* readers would disagree about its structure, or it is beyond our limits */
};

struct convert;
struct convert *convert_new(void);                                     /* NULL without memory */
void            convert_free(struct convert *c);

void convert_scan(struct convert *c, struct str bytes);
int  convert_scan_end(struct convert *c, enum convert_verdict *out);   /* -ENOMEM: the plan could not be kept */

/* Of the scanned message: it needs more than 8BITMIME as it is (NUL, bare CR or LF, long lines). */
bool     convert_is_binary(const struct convert *c);

/* Of the scanned message, if conversion is possible. */
uint64_t convert_size(const struct convert *c);                        /* bytes that will be written, exactly */
bool     convert_breaks_signature(const struct convert *c);

/* If it is possible, or there is nothing to do. Appends what comes of the next bytes: at most CONVERT_GROWTH_MAX for each (many small
 * parts that get fields) and CONVERT_EXTRA_MAX besides. */
#define CONVERT_GROWTH_MAX 16
#define CONVERT_EXTRA_MAX  (8 * 1024)
void convert_write(struct convert *c, struct str bytes, struct buf *out);
void convert_write_end(struct convert *c, struct buf *out);

/* Why not, in words. "" if it is possible. */
const char *convert_words(enum convert_verdict verdict);

#endif
