/*
 * One header field in the writing, folded at 78 columns (RFC 5322, 2.2.3). Pure.
 *
 * What is put must be printable already; fold_put breaks lines, it does not clean.
 */
#ifndef MAIL_FOLD_H
#define MAIL_FOLD_H

#include "base/buf.h"
#include "base/str.h"

#define FOLD_WORD_MAX 900   /* a longer word is cut, since no line may pass 998 (RFC 5322, 2.1.1) */

struct fold {
    struct buf *out;        /* borrowed */
    size_t      column;
};

void fold_begin(struct fold *f, struct buf *out, const char *name);   /* "Name:" */
void fold_put(struct fold *f, struct str piece);   /* a piece that begins with a space may go to the next line */
void fold_put_text(struct fold *f, struct str text);   /* a space and the text, which may be broken at each space */
void fold_end(struct fold *f);                     /* CRLF */

#endif
