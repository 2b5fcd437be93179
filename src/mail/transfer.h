/*
 * Content-transfer-encodings for text that comes in pieces (RFC 2045, 6.7 and 6.8). Pure.
 *
 * A text is given as runs of bytes and, between them, the ends of its lines; a CR or LF inside a run is a byte like any other. What
 * comes out is printable ASCII and tabs in lines of at most 76 columns, and does not depend on how the runs are cut. No line of
 * quoted-printable begins with "--", so that none can be taken for a delimiter of a multipart. Zero-initialised encoders are ready.
 */
#ifndef MAIL_TRANSFER_H
#define MAIL_TRANSFER_H

#include "base/buf.h"
#include "base/str.h"

struct transfer_qp {
    size_t column;
    char   held;                         /* the last byte: how it is written depends on the next */
    bool   has_held;
};
void transfer_qp_run(struct transfer_qp *q, struct str run, struct buf *out);
void transfer_qp_line_end(struct transfer_qp *q, struct buf *out);
void transfer_qp_end(struct transfer_qp *q, struct buf *out);          /* a line end of the frame follows, which is not the text's */
void transfer_qp_end_alone(struct transfer_qp *q, struct buf *out);    /* nothing follows: CRLF, behind "=" if the text's last line has no end */

struct transfer_base64 {
    char   held[57];                     /* 76 columns */
    size_t n;
    bool   begun;                        /* there is a line already */
};
void transfer_base64_run(struct transfer_base64 *b, struct str run, struct buf *out);
void transfer_base64_end(struct transfer_base64 *b, struct buf *out);  /* without the last line's CRLF */
uint64_t transfer_base64_size(uint64_t bytes);                         /* of all that comes out */

/*
 * Mending: text that says it is encoded, and is not quite. What decodes it makes the same of it before and after.
 *
 * Quoted-printable with octets that may not be there has these escaped, and lines of more than 900 columns broken. (Of one that ends in
 * more blanks than fit, some stay that a decoder drops otherwise.) Base64 loses all that a decoder must ignore (RFC 2045, 6.8), and gets
 * lines of 76 columns.
 */
struct transfer_mend_qp {
    size_t   column;
    unsigned in_escape;                  /* characters that still belong to "=XX" */
};
void transfer_mend_qp_run(struct transfer_mend_qp *m, struct str run, struct buf *out);
void transfer_mend_qp_line_end(struct transfer_mend_qp *m, struct buf *out);

struct transfer_mend_base64 {
    size_t column;
};
void transfer_mend_base64_run(struct transfer_mend_base64 *m, struct str run, struct buf *out);   /* ends of lines are ignored, too */

#endif
