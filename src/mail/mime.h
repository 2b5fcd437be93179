/*
 * Writing MIME (RFC 2045-2047, 2183, 2231, 6522): only what our own messages need. Pure.
 *
 * A multipart message is written top down:
 *     header fields, mime_put_multipart(...), CRLF,
 *     mime_put_part, one of mime_put_text / mime_put_attachment / ..., as often as wanted, mime_put_end.
 * Every line that comes out ends in CRLF and is at most 76 columns long, except in parts that the caller hands over whole.
 */
#ifndef MAIL_MIME_H
#define MAIL_MIME_H

#include "base/buf.h"
#include "base/str.h"

#define MIME_BOUNDARY_LEN 28

/* A boundary from 128 random bits of the caller's: cannot occur in base64 or quoted-printable text ("=_" is in it). */
void mime_boundary(uint64_t random_high, uint64_t random_low, char out[MIME_BOUNDARY_LEN + 1]);

/* The media type that a file name's ending suggests; "application/octet-stream" if unknown. */
const char *mime_type_of(struct str file_name);

/* "; name=value" of a structured field: bare token, quoted, or RFC 2231 with continuation, one parameter to a folded line. */
void mime_put_param(struct buf *out, const char *name, struct str utf8);

/* MIME-Version and Content-Type fields of a multipart message: subtype "mixed", "alternative", ... */
void mime_put_multipart(struct buf *out, const char *subtype, const char *boundary);
void mime_put_report(struct buf *out, const char *report_type, const char *boundary);  /* multipart/report (RFC 6522) */

/* The field that a multipart message needs besides if one of its parts is 8bit (RFC 2045, 6.4). */
void mime_put_8bit(struct buf *out);

void mime_put_part(struct buf *out, const char *boundary);     /* the delimiter line before each part */
void mime_put_end(struct buf *out, const char *boundary);      /* the last one */

/* Fields, empty line and body of one part, or of a whole message that has no parts. Line ends in text may be LF or
 * CRLF; what is not UTF-8 in it is replaced. */
void mime_put_text(struct buf *out, struct str utf8);                                          /* text/plain */
void mime_put_attachment(struct buf *out, struct str file_name, const char *type, struct str bytes);  /* type NULL: by name */
void mime_put_raw(struct buf *out, const char *type, struct str bytes);  /* as it is, CRLF added at the end if missing;
                                                                           * 7bit or 8bit as the bytes are */
#endif
