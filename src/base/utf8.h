/*
 * UTF-8, one character at a time (RFC 3629). Pure.
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/buf.h"
#include "base/str.h"

/* Length of the well-formed character at the beginning of s, and its code point; 0 if there is none. */
size_t utf8_next(struct str s, uint32_t *code_point);

bool utf8_valid(struct str s);
bool utf8_is_ascii(struct str s);

void utf8_put(struct buf *out, uint32_t code_point);

/* Text fit for a header or a line of ours: what is not well-formed becomes U+FFFD, a control (C0, DEL, C1, line and
 * paragraph separator) a space. */
void utf8_put_clean(struct buf *out, struct str text);

#endif
