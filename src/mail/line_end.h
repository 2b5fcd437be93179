/*
 * Line ends as Unix programs have them, for text that leaves the world of SMTP. Pure.
 */
#ifndef MAIL_LINE_END_H
#define MAIL_LINE_END_H

#include <stddef.h>

/* Makes each CRLF an LF, in place; a CR or LF that stands alone stays what it is. The new length. */
size_t line_end_to_lf(char *p, size_t n);

#endif
