/*
 * Dates: RFC 5322 (3.3 and the obsolete forms of 4.3) and RFC 3339, from and to nanoseconds since 1970 UTC.
 * Pure: no time zone of the machine, no libc calendar.
 */
#ifndef MAIL_DATE_H
#define MAIL_DATE_H

#include "base/buf.h"
#include "base/str.h"

/* "Tue, 1 Jul 2003 10:52:37 +0200": the wall clock's time as seen offset_minutes east of Greenwich (at most 24 h off). */
void date_put(struct buf *out, int64_t wall_ns, int offset_minutes);

/* The same and what people and old software write: no weekday, comments, folds, two- and three-digit years, named and
 * military zones (those of unknown meaning count as -0000), missing seconds, a leap second. The weekday is not checked.
 * Years 1900 to 2262 (the end of the type). False, out untouched, otherwise. The offset may be NULL. */
bool date_parse(struct str text, int64_t *out_wall_ns, int *out_offset_minutes);

/* Any RFC 3339 date-time (calendar_put_iso writes one). */
bool date_parse_iso(struct str text, int64_t *out_wall_ns);

#endif
